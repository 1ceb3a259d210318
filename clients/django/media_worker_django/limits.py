"""What the worker accepts, as it has published it: for the form, before anything is stored."""

from __future__ import annotations

import time

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from media_worker_client import MediaError
from redis.exceptions import RedisError

from media_worker_django import conf

_KEPT_S = 60.0
_MIB = 2**20
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


def megabytes(size: int) -> str:
    """The size of a file, as the worker says it."""
    if size >= 100_000:
        return _("%s MB") % number_format(size / 1e6, 1)
    return ngettext("%s byte", "%s bytes", size) % number_format(size)


def limit(size: int) -> str:
    """A limit, as the worker says it: in whole MiB, if it is."""
    return _("%s MiB") % number_format(size // _MIB) if size % _MIB == 0 else megabytes(size)
