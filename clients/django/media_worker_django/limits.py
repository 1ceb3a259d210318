"""What the worker accepts, as it has published it: for the form, before anything is stored."""

from __future__ import annotations

import time

from media_worker_client import MediaError
from redis.exceptions import RedisError

from media_worker_django import conf

_KEPT_S = 60.0
_known: dict[str, tuple[float, int | None]] = {}


def max_bytes() -> int | None:
    """The size that a file may have; None where nobody has said so, or Redis is away. Asked once a minute."""
    place = str(conf.option("REDIS_URL"))
    at, found = _known.get(place, (float("-inf"), None))
    if time.monotonic() - at >= _KEPT_S:
        found = _ask()
        _known[place] = (time.monotonic(), found)
    return found


def _ask() -> int | None:
    try:
        told = conf.client().limits().get("max_bytes")
    except (MediaError, RedisError, OSError):
        return None
    return told if isinstance(told, int) else None
