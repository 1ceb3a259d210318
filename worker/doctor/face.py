"""The HTTP server, as `media doctor` finds what it needs."""

import importlib.util
from collections.abc import Sequence
from contextlib import suppress

from storage.catalog.database import open_to_read
from storage.catalog.http_keys import HttpKey, HttpKeys
from storage.errors import StorageError, lacking
from worker.amounts import counted
from worker.findings import Finding
from worker.http import PACKAGES
from worker.settings import Settings

_WHAT = "HTTP server"


async def check_http(settings: Settings) -> Sequence[Finding]:
    """Whether `media serve` can be started, and for whom it is open. Changes nothing."""
    keys: Sequence[HttpKey] = ()
    with suppress(StorageError, OSError):  # another finding reports it
        async with open_to_read(settings.catalog) as database:
            keys = await HttpKeys(database).all()
    is_installed = all(importlib.util.find_spec(name) for name in PACKAGES)
    return [inspect_http(settings, keys, is_installed=is_installed)]


def inspect_http(settings: Settings, keys: Sequence[HttpKey], *, is_installed: bool) -> Finding:
    """The finding about a server with those settings and keys."""
    if not is_installed:
        advice = f"It {lacking('http')}."
        if keys:
            return Finding(_WHAT, "warning", "there are keys, but it is not installed here", advice)
        return Finding(
            _WHAT, "ok", "not installed here, which is fine where nobody uploads over HTTP", advice
        )
    counting = [key for key in keys if key.revoked_ms is None]
    tokens = "tokens are signed" if settings.http_secret else "no tokens (MEDIA_HTTP_SECRET is not set)"
    detail = f"{counted(len(counting), 'key')}, {len(keys) - len(counting)} revoked; {tokens}"
    if not keys and not settings.http_is_local:
        return Finding(
            _WHAT,
            "warning",
            f"it does not start without a key, because {settings.http_bind} is reached by "
            f"{settings.http_reached_by}",
            "Make one: media keys new NAME",
        )
    if keys and not counting:
        return Finding(_WHAT, "warning", f"{detail}: nobody is let in", "Make one: media keys new NAME")
    return Finding(_WHAT, "ok", detail if keys else f"no keys: it is open to this machine alone; {tokens}")
