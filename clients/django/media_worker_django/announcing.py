"""What the worker is asked to do: rows that say so, events on commit, and again until they are answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.apps import apps
from django.db import DatabaseError, Error, connections, models, router, transaction
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
_REST_S = 10  # of a Redis that is away: a request with many pictures waits for one, and the outbox for none
_away_until: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
_SELDOM = 16  # times `RESEND_AFTER`: so long at most until the same event is sent again


def file_saved(
    field: MediaField, instance: models.Model, name: str, old: str, *, is_written: bool
) -> Upload | None:
    """Have the file `name` of an instance's row made into variants; `old` is what the row had before.

    Pages show the variants of `old` until those of `name` are ready. A file that is known already, and was
    not written anew, stays as it is. Returns the row about the file; None where another process has meanwhile
    put another into the instance's row.
    """
    using = router.db_for_write(Upload, instance=instance)
    is_replaced = old not in ("", name)
    with _writing(using):
        if is_replaced and not is_in_use(name, using):
            return None
        rows = Upload.objects.using(using)
        upload = rows.filter(source=name).first()
        if upload is not None and upload.state not in GOING and not is_written:
            if is_replaced:
                _drop(old, field, using)
            return upload
        changes = {"source": name, **field.options_for(instance), "field": field.label, **_fresh()}
        if is_replaced:  # else what it is to replace stays
            shown, replaces = _superseded(old, using)
            changes["replaces"] = None if replaces == UUID(upload_id(name)) else replaces
            if upload is None or not upload.variants:
                changes |= shown
        # Another process may have announced it as well, or a message have changed what is not in `changes`.
        upload, _created = rows.update_or_create(id=upload_id(name), defaults=changes)
    _send_on_commit([upload], using)
    return upload


def file_dropped(field: MediaField, instance: models.Model, name: str) -> None:
    """Have the variants of a file deleted, and those that are shown in their place, unless a row has it."""
    using = router.db_for_write(Upload, instance=instance)
    with _writing(using):
        _drop(name, field, using)


def retry(uploads: models.QuerySet[Upload]) -> int:
    """Have those tried again that failed, wait, or were deleted elsewhere; returns how many."""
    using = uploads._db or router.db_for_write(Upload)
    rows = Upload.objects.using(using).filter(state__in=[State.FAILED, State.DELETED, *UNFINISHED])
    chosen = []
    with _writing(using):
        for pk in list(uploads.using(using).values_list("pk", flat=True)):
            if rows.filter(pk=pk).update(**_fresh(), changed=timezone.now()):
                chosen.append(Upload.objects.using(using).get(pk=pk))
    _send_on_commit(chosen, using)
    return len(chosen)


def announce_again(upload: Upload, **shown: Any) -> bool:
    """Have an upload announced that is going, if a row names its file after all; returns whether that is so.

    So it is with a file that a stale instance, or an `update`, has put back into its row.
    """
    using = upload._state.db or router.db_for_write(Upload)
    if not is_in_use(upload.source, using):
        return False
    rows = Upload.objects.using(using).filter(pk=upload.pk, state=upload.state)
    if rows.update(**_fresh(), replaces=None, changed=timezone.now(), **shown):
        again = Upload.objects.using(using).get(pk=upload.pk)
        _send_on_commit([again], using)
    return True


def announce_missing() -> int:
    """Announce the files of rows that nobody has announced; returns how many.

    Such are those from before the field was a MediaField, and those of `loaddata` and `QuerySet.update`.
    """
    count = 0
    for field in media_fields():
        rows = models.QuerySet(field.model, using=router.db_for_write(field.model))
        unknown = rows.exclude(**{field.name: ""}).filter(
            **{f"{field.name}__isnull": False, f"{field.relation.name}__state__isnull": True}
        )
        # Each row is read on its own: it may have changed by now, and before Python 3.11 a rollback ends all
        # that SQLite still reads.
        for pk in list(unknown.values_list("pk", flat=True)):
            instance = unknown.filter(pk=pk).first()
            if instance is None:
                continue
            name = getattr(instance, field.attname).name
            try:
                file_saved(field, instance, name, "", is_written=False)
            except Error:
                raise
            except Exception:  # of the app's functions of the instance
                logger.exception("%s of %s cannot be announced", name, field.label)
            else:
                count += 1
    return count


def send_due() -> int:
    """Send the events that are due, because they are new or were not answered; returns how many were sent.

    The longer one has no answer, the more seldom it is sent: a worker may be away for days. Where Redis is
    away, it ends.
    """
    sent = 0
    for using in databases():
        rows = Upload.objects.using(using).filter(due__lte=timezone.now()).order_by("due")[:_AT_ONCE]
        for upload in list(rows):
            # First the time of the next try: of two processes one sends. An answer may end it meanwhile.
            mine = Upload.objects.using(using).filter(pk=upload.pk, due=upload.due, state=upload.state)
            if not mine.update(due=_later(upload.changed)):
                continue
            is_in_use_again = upload.state == State.DELETING and announce_again(upload)
            if not is_in_use_again and not send([upload]):
                break
            sent += 1
    return sent


def send(uploads: Sequence[Upload]) -> int:
    """Send the event of each until Redis is away; returns how many. What does not reach it is due at once."""
    media = conf.client()
    for sent, upload in enumerate(uploads):
        if time.monotonic() < _away_until.get(media, 0.0):
            _put_off(uploads[sent:])
            return sent
        try:
            _send(upload, media)
        except (RedisError, OSError) as error:
            logger.warning("The event of %s waits for Redis: %s", upload.source, error)
            _away_until[media] = time.monotonic() + _REST_S
            _put_off(uploads[sent:])
            return sent
        except ValueError as error:  # what the client refuses the worker would refuse
            logger.exception("The event of %s is refused", upload.source)
            _rows(upload).filter(state__in=UNFINISHED).update(
                state=State.FAILED, error_code="invalid_event", error_message=str(error), due=None
            )
    return len(uploads)


def _put_off(uploads: Sequence[Upload]) -> None:
    for upload in uploads:
        _rows(upload).filter(due__isnull=False).update(due=timezone.now())


def _rows(upload: Upload) -> models.QuerySet[Upload]:
    return Upload.objects.using(upload._state.db).filter(pk=upload.pk)


def is_in_use(name: str, using: str) -> bool:
    """Whether a row names this file, in the database `using` or that of its model; or that is unknown.

    It is where a table or its column is yet to be migrated: nothing is deleted on a guess.
    """
    places = [(one, router.db_for_write(one.model)) for one in media_fields()]
    for alias in dict.fromkeys([using, *(own for _field, own in places)]):
        fields = [field for field, own in places if alias in (using, own)]
        try:
            with transaction.atomic(using=alias):
                if any(_is_named(name, field, alias) for field in fields):
                    return True
        except DatabaseError as error:
            logger.warning("It is not known whether %s is in use, so it is kept: %s", name, error)
            return True
    return False


def _is_named(name: str, field: MediaField, using: str) -> bool:
    rows = models.QuerySet(field.model, using=using)  # those that its managers hide, too
    return router.allow_migrate_model(using, field.model) and rows.filter(**{field.attname: name}).exists()


def databases() -> Sequence[str]:
    """Those that have rows of `Upload`: its own, and that of each model with a MediaField."""
    aliases = dict.fromkeys(
        [router.db_for_write(Upload), *(router.db_for_write(one.model) for one in media_fields())]
    )
    return [alias for alias in aliases if router.allow_migrate_model(alias, Upload)]


def media_fields() -> Iterator[MediaField]:
    """Each MediaField of the project."""
    from media_worker_django.fields import MediaField

    for model in apps.get_models():
        yield from (field for field in model._meta.local_fields if isinstance(field, MediaField))


def begin_to_write(using: str) -> None:
    """Begin a transaction with a write where rows cannot be locked: SQLite waits there, not after a read."""
    if not connections[using].features.has_select_for_update:
        Upload.objects.using(using).filter(source="").update(source="")


@contextmanager
def _writing(using: str) -> Iterator[None]:
    with transaction.atomic(using=using, savepoint=False):
        begin_to_write(using)
        yield


def _superseded(old: str, using: str) -> tuple[dict[str, Any], Any]:
    """What pages show of a file that is replaced, and the id of the upload that it is of."""
    rows = Upload.objects.using(using)
    previous = rows.filter(source=old).first()
    if previous is not None and previous.state == State.REPLACED:
        # By another process, at the same time. What that one has put in its place is replaced by now.
        previous = rows.filter(replaces=previous.pk).exclude(state__in=GOING).first()
    if previous is None or previous.state == State.DELETING:
        return {}, None
    shown = {name: getattr(previous, name) for name in _SHOWN}
    if is_in_use(previous.source, using):
        return shown, None
    if previous.state == State.READY:
        rows.filter(pk=previous.pk).update(state=State.REPLACED, due=None)
        return shown, previous.pk
    # It never was ready; what it was to replace still is.
    _delete(rows.filter(pk=previous.pk))
    return shown, previous.replaces


def _drop(name: str, field: MediaField, using: str) -> None:
    if is_in_use(name, using):
        return
    rows = Upload.objects.using(using)
    upload, _created = rows.get_or_create(id=upload_id(name), defaults={"source": name, "field": field.label})
    _delete(rows.filter(pk__in=[one for one in (upload.pk, upload.replaces) if one]))


def _delete(uploads: models.QuerySet[Upload]) -> None:
    after = timedelta(seconds=conf.option("DELETE_AFTER"))
    uploads.update(state=State.DELETING, due=timezone.now() + after, changed=timezone.now())
    if not after:
        ids = list(uploads)
        uploads.update(due=_later())
        _send_on_commit(ids, uploads.db)


def _send(upload: Upload, media: Any) -> None:
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


def _send_on_commit(uploads: Sequence[Upload], using: str) -> None:
    # No `partial`: Django logs the name of a function that has failed, and a partial has none.
    transaction.on_commit(lambda: send(uploads), using=using, robust=True)


def _fresh() -> dict[str, Any]:
    """What is so of each upload that is announced, also once more."""
    return {"state": State.PENDING, "due": _later(), "error_code": "", "error_message": ""}


def _later(since: datetime | None = None) -> datetime:
    """When an event is sent again that has had no answer `since` then."""
    now, shortest = timezone.now(), timedelta(seconds=conf.option("RESEND_AFTER"))
    waited = now - since if since else shortest
    return now + min(max(waited, shortest), _SELDOM * shortest)
