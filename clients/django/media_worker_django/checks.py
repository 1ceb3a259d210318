"""System checks: settings that are wrong, a folder that no worker uses, and a listener that is not there.

Redis may be away when an app starts, so nothing here asks it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.files.storage import FileSystemStorage
from django.db import DatabaseError, router
from django.db.models import Q
from django.utils import timezone

from media_worker_django.conf import DEFAULTS

_SCHEMES = ("redis://", "rediss://", "unix://")
_PATIENCE = timedelta(minutes=5)


@register("media")
def check_settings(**_: Any) -> list[CheckMessage]:
    """`MEDIA_WORKER` has only settings that are known, of the right types."""
    given = getattr(settings, "MEDIA_WORKER", {})
    if not isinstance(given, dict):
        return [Error("MEDIA_WORKER is no dictionary.", id="media_worker_django.E001")]
    unknown = sorted(map(str, given.keys() - DEFAULTS.keys()))
    wrong = [
        Error(
            f"MEDIA_WORKER has no setting {name!r}.",
            hint=f"It has {', '.join(DEFAULTS)}.",
            id="media_worker_django.E002",
        )
        for name in unknown
    ]
    return [*wrong, *_wrong_values({**DEFAULTS, **given})]


def _wrong_values(values: dict[str, Any]) -> Iterator[CheckMessage]:
    def error(name: str, wanted: str) -> CheckMessage:
        return Error(
            f"MEDIA_WORKER[{name!r}] is {values[name]!r}, not {wanted}.", id="media_worker_django.E003"
        )

    for name in ("STREAM", "EVENTS", "URL"):
        if not isinstance(values[name], str):
            yield error(name, "a text")
    for name in ("DELETE_AFTER", "RESEND_AFTER"):
        if isinstance(values[name], bool) or not isinstance(values[name], (int, float)) or values[name] < 0:
            yield error(name, "a number of seconds")
    if not isinstance(values["DELETE_ORIGINALS"], bool):
        yield error("DELETE_ORIGINALS", "True or False")
    if not str(values["REDIS_URL"]).startswith(_SCHEMES):
        yield error("REDIS_URL", f"a URL that begins with {', '.join(_SCHEMES)}")


@register("media", deploy=True)
def check_folder(**_: Any) -> list[CheckMessage]:
    """A worker has been at work in each folder: it leaves its marker there."""
    from media_worker_django.announcing import media_fields

    storages = {id(field.storage): field.storage for field in media_fields()}.values()
    places = {Path(one.location) for one in storages if isinstance(one, FileSystemStorage) and one.location}
    return [
        Warning(
            f"No media-worker has been at work in {place}.",
            hint="MEDIA_ROOT must be the same folder as the worker's MEDIA_STORAGE_URL.",
            id="media_worker_django.W007",
        )
        for place in sorted(places)
        if not os.path.exists(place / ".media-root.json")
    ]


@register(Tags.database)
def check_listener(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Somebody listens, where uploads wait for an answer: `manage.py check --database default`."""
    from media_worker_django.models import UNFINISHED, Position, Upload

    late = timezone.now() - _PATIENCE
    waits = Q(state__in=UNFINISHED, changed__lt=late) | Q(due__lt=late)
    found: list[CheckMessage] = []
    for using in databases or ():
        try:
            waiting = Upload.objects.using(using).filter(waits).count()
            positions = Position.objects.using(router.db_for_write(Position)).order_by("-seen")
            seen = positions.values_list("seen", flat=True).first()
        except DatabaseError:  # before the first migration
            continue
        if waiting and (seen is None or seen < late):
            never = "has never run" if seen is None else f"was last seen at {seen:%Y-%m-%d %H:%M %Z}".rstrip()
            found.append(
                Warning(
                    f"Uploads wait for an answer ({waiting}), and the listener {never}.",
                    hint="Run `manage.py media_listen` as a service beside the web server.",
                    id="media_worker_django.W008",
                )
            )
    return found


@register("media")
def check_databases(**_: Any) -> list[CheckMessage]:
    """Each model with a MediaField has the rows of `Upload` in its database."""
    from media_worker_django.announcing import media_fields
    from media_worker_django.models import Upload

    models = dict.fromkeys(field.model for field in media_fields())
    return [
        Warning(
            f"{model._meta.label} is in the database {using!r}, where media_worker_django has no tables.",
            hint="Have your router put them there, too: queries that join them fail.",
            obj=model,
            id="media_worker_django.W009",
        )
        for model in models
        if not router.allow_migrate_model(using := router.db_for_write(model), Upload)
    ]
