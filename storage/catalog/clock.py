"""The catalog's time: milliseconds since 1970, UTC."""

import time


def now_ms() -> int:
    """This moment in ms since 1970."""
    return time.time_ns() // 1_000_000
