"""What the worker is asked to do: rows that say so, events on commit, and again until they are answered."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models, router, transaction
from django.utils import timezone
from media_worker_client import upload_id
from redis.exceptions import RedisError

from media_worker_django import conf
from media_worker_django.models import GOING, UNFINISHED, State, Upload

if TYPE_CHECKING:
    from media_worker_django.fields import MediaField

logger = logging.getLogger("media_worker_django")
_SHOWN = ("variants", "srcset", "color", "thumbhash", "placeholder")
_AT_ONCE = 500


def file_saved(field: MediaField, instance: models.Model, name: str, old: str) -> Upload:
    """Have the file `name` of an instance made into variants, and the one it had before, `old`, replaced.

    Pages show the variants of `old` until those of `name` are ready.
    """
    using = router.db_for_write(Upload, instance=instance)
    with _writing(name, using):
        shown, replaces = ({}, None) if old in ("", name) else _superseded(old, instance, using)
        asked = {**field.options_for(instance), "field": field.label}
        if old != name:  # else what it is to replace stays
            asked["replaces"] = replaces
        fresh = {"error_code": "", "error_message": "", "state": State.PENDING, "due": _later()}
        upload, _created = Upload.objects.using(using).update_or_create(
            id=upload_id(name), defaults={"source": name, **shown, **asked, **fresh}
        )
    transaction.on_commit(partial(send, [upload]), using=using, robust=True)
    return upload


def file_kept(field: MediaField, instance: models.Model, name: str) -> Upload:
    """The row of a file that was there before this instance; it is announced where nobody has."""
    using = router.db_for_write(Upload, instance=instance)
    known = Upload.objects.using(using).filter(source=name).exclude(state__in=GOING).first()
    return known or file_saved(field, instance, name, "")


def file_dropped(field: MediaField, instance: models.Model, name: str) -> None:
    """Have the variants of a file deleted, and those that are shown in their place, unless a row has it."""
    using = router.db_for_write(Upload, instance=instance)
    with _writing(name, using):
        if is_in_use(name, using, besides=instance):
            return
        upload, _created = Upload.objects.using(using).get_or_create(
            id=upload_id(name), defaults={"source": name, "field": field.label}
        )
        _delete(
            Upload.objects.using(using).filter(pk__in=[one for one in (upload.pk, upload.replaces) if one])
        )


def retry(uploads: models.QuerySet[Upload]) -> int:
    """Have those tried again that failed, wait, or were deleted elsewhere; returns how many."""
    chosen = list(uploads.filter(state__in=[State.FAILED, State.DELETED, *UNFINISHED]))
    uploads.filter(pk__in=[one.pk for one in chosen]).update(
        state=State.PENDING, due=_later(), error_code="", error_message="", changed=timezone.now()
    )
    for one in chosen:
        one.state = State.PENDING
    transaction.on_commit(partial(send, chosen), using=uploads.db, robust=True)
    return len(chosen)


def announce_missing() -> int:
    """Announce the files of rows that nobody has announced; returns how many.

    Such are those from before the field was a MediaField, and those of `loaddata` and `QuerySet.update`.
    """
    count = 0
    for field in media_fields():
        unknown = field.model._base_manager.exclude(**{field.name: ""}).filter(
            **{f"{field.name}__isnull": False, f"{field.relation.name}__state__isnull": True}
        )
        for instance in unknown.iterator():
            file_saved(field, instance, getattr(instance, field.attname).name, "")
            count += 1
    return count


def send_due() -> int:
    """Send the events that are due, because they are new or were not answered; returns how many were sent."""
    rows = Upload.objects.filter(due__lte=timezone.now()).order_by("due")[:_AT_ONCE]
    sent = 0
    for upload in list(rows):
        # First the time of the next try: of two processes one sends. An answer may end it meanwhile.
        if Upload.objects.filter(pk=upload.pk, due=upload.due, state=upload.state).update(due=_later()):
            sent += send([upload])
    return sent


def send(uploads: Iterable[Upload]) -> int:
    """Send the event of each; returns how many. What does not reach Redis is due at once."""
    sent = 0
    for upload in uploads:
        try:
            _send(upload)
            sent += 1
        except (RedisError, OSError) as error:
            logger.warning("The event of %s waits for Redis: %s", upload.source, error)
            Upload.objects.using(upload._state.db).filter(pk=upload.pk, due__isnull=False).update(
                due=timezone.now()
            )
        except ValueError as error:  # what the client refuses the worker would refuse
            Upload.objects.using(upload._state.db).filter(pk=upload.pk, state__in=UNFINISHED).update(
                state=State.FAILED, error_code="invalid_event", error_message=str(error), due=None
            )
    return sent


def is_in_use(name: str, using: str, *, besides: models.Model | None = None) -> bool:
    """Whether a row names this file, other than `besides`."""
    for field in media_fields():
        rows = field.model._base_manager.using(using).filter(**{field.attname: name})
        if besides is not None and isinstance(besides, field.model):
            rows = rows.exclude(pk=besides.pk)
        if rows.exists():
            return True
    return False


def media_fields() -> Iterator[MediaField]:
    """Each MediaField of the project."""
    from media_worker_django.fields import MediaField

    for model in apps.get_models():
        yield from (field for field in model._meta.local_fields if isinstance(field, MediaField))


@contextmanager
def _writing(name: str, using: str) -> Iterator[None]:
    """A transaction that begins with a write: SQLite waits for its turn there, but not after a read."""
    with transaction.atomic(using=using):
        Upload.objects.using(using).filter(source=name).update(source=name)
        yield


def _superseded(old: str, instance: models.Model, using: str) -> tuple[dict[str, Any], Any]:
    """What pages show of a file that is replaced, and the id of the upload that it is of."""
    rows = Upload.objects.using(using)
    previous = rows.filter(source=old).exclude(state__in=GOING).first()
    if previous is None:
        return {}, None
    shown = {name: getattr(previous, name) for name in _SHOWN}
    if is_in_use(old, using, besides=instance):
        return shown, None
    if previous.state == State.READY:
        rows.filter(pk=previous.pk).update(state=State.REPLACED, due=None)
        return shown, previous.pk
    # It never was ready; what it was to replace still is.
    _delete(rows.filter(pk=previous.pk))
    return shown, previous.replaces


def _delete(uploads: models.QuerySet[Upload]) -> None:
    after = timedelta(seconds=conf.option("DELETE_AFTER"))
    uploads.update(state=State.DELETING, due=timezone.now() + after, changed=timezone.now())
    if not after:
        ids = list(uploads)
        uploads.update(due=_later())
        transaction.on_commit(partial(send, ids), using=uploads.db, robust=True)


def _send(upload: Upload) -> None:
    media = conf.client()
    if upload.state == State.DELETING:
        media.delete(str(upload.pk), original=conf.option("DELETE_ORIGINALS"))
        return
    asked = {
        "id": str(upload.pk),
        "recipe": upload.recipe or None,
        "metadata": upload.metadata or None,
        "owner": upload.owner or None,
    }
    if upload.replaces:
        media.replace(str(upload.replaces), upload.source, **asked)
    else:
        media.announce(upload.source, **asked)


def _later() -> datetime:
    return timezone.now() + timedelta(seconds=conf.option("RESEND_AFTER"))
