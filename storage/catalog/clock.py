"""The catalog's time: milliseconds since 1970, UTC.

The clock may be wrong, and may be put right: it goes back, or leaps.
"""

import time

SKEW_MS = 10_000
"""A time further ahead than this was written by a clock that has been put back since."""

wall_ns = time.time_ns


def now_ms() -> int:
    """This moment in ms since 1970."""
    return wall_ns() // 1_000_000
