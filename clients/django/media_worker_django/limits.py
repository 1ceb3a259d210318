"""What the worker accepts, as it has published it: for the form, before anything is stored."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from django.core.exceptions import ValidationError
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from media_worker_client import MediaError
from redis.exceptions import RedisError

from media_worker_django import conf

_KEPT_S = 60.0
_MIB = 2**20
_known: WeakKeyDictionary[Any, tuple[float, int | None]] = WeakKeyDictionary()


def max_bytes() -> int | None:
    """The size that a file may have; None where nobody has said so, or Redis is away. Asked once a minute."""
    media = conf.client()
    at, found = _known.get(media, (float("-inf"), None))
    if time.monotonic() - at >= _KEPT_S:
        found = _ask(media)
        _known[media] = (time.monotonic(), found)
    return found


def _ask(media: Any) -> int | None:
    try:
        told = media.limits().get("max_bytes")
    except (MediaError, RedisError, OSError):
        return None
    return told if isinstance(told, int) else None


def validate_size(file: Any) -> None:
    """Refuse a new file that is larger than a worker takes. Raises: ValidationError."""
    most = None if getattr(file, "_committed", False) else max_bytes()
    if most is not None and file.size > most:
        raise ValidationError(
            _("The file has %(size)s; at most %(most)s are accepted."),
            code="too_large",
            params={"size": megabytes(file.size), "most": limit(most)},
        )


def megabytes(size: int) -> str:
    """The size of a file, as the worker says it."""
    if size >= 100_000:
        return _("%s MB") % number_format(size / 1e6, 1)
    return ngettext("%s byte", "%s bytes", size) % number_format(size)


def limit(size: int) -> str:
    """A limit, as the worker says it: in whole MiB, if it is."""
    return _("%s MiB") % number_format(size // _MIB) if size % _MIB == 0 else megabytes(size)
