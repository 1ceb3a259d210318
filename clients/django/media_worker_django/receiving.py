"""What becomes of a message: the row of its upload; and the place in the stream."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.storage import FileSystemStorage
from django.db import router, transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Greatest
from django.utils import timezone

from media_worker_django import conf
from media_worker_django.announcing import announce_again, begin_to_write, databases
from media_worker_django.models import GOING, OF_THE_PICTURE, UNFINISHED, Position, State, Upload
from media_worker_django.thumbhashes import data_uri

if TYPE_CHECKING:
    from media_worker_client import Message

logger = logging.getLogger("media_worker_django")
_NOTHING_SHOWN = {"variants": [], "srcset": "", "placeholder": ""}
_COLOR = re.compile("#[0-9a-f]{6}")  # what pages have in a style


class DatabaseCursor:
    """The place in the stream of messages, in the app's database.

    It is kept after the row of a message: what comes twice is dropped by its `seq`, and nothing is lost.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream

    def load(self) -> str | None:
        """The ID of the last message that was handled."""
        entry_id = self._rows().filter(pk=self.stream).values_list("entry_id", flat=True).first()
        return entry_id or None

    def save(self, last_id: str) -> None:
        """Keep it."""
        self._update(entry_id=last_id)

    def touch(self) -> None:
        """Keep that somebody listens."""
        self._update()

    def _update(self, **values: str) -> None:
        # The write comes first: SQLite then waits for its turn.
        if not self._rows().filter(pk=self.stream).update(seen=timezone.now(), **values):
            self._rows().get_or_create(stream=self.stream, defaults=values)

    @staticmethod
    def _rows() -> QuerySet[Position]:
        return Position.objects.using(router.db_for_write(Position))


def receive(message: Message) -> None:
    """Write down what a message says, in one transaction; of several databases each, for one has the row."""
    for using in databases():
        with transaction.atomic(using=using):
            begin_to_write(using)
            apply(message, Upload.objects.using(using))


def pending_ids() -> list[str]:
    """The uploads whose outcome this app waits for: a listener that has missed messages asks for them."""
    waiting = Q(due__isnull=False) | Q(state__in=GOING)
    found = [
        Upload.objects.using(using).filter(waiting).values_list("pk", flat=True) for using in databases()
    ]
    return [str(pk) for pks in found for pk in pks]


def apply(message: Message, uploads: QuerySet[Upload]) -> None:
    """Write down what a message says, unless a newer one has said more.

    The condition stands in the statement that changes the row: a request may change it at the same time.
    """
    if message.entry is not None:
        _refused(message, uploads)
    elif message.id is not None:
        rows = uploads.filter(pk=message.id)
        newer = _newer(message)
        match message.state:
            case "ready":
                _ready(message, rows.filter(newer).exclude(state__in=GOING))
            case "failed":
                _failed(message, rows.filter(newer).exclude(state__in=GOING))
            case "processing":
                # It is told once more with the `seq` of the message before it, and never kept.
                begun = rows.filter(seq__lte=message.seq, state=State.PENDING)
                begun.update(state=State.PROCESSING, changed=timezone.now())
            case "deleted":
                _deleted(message, rows.filter(newer))
            case "unknown":
                rows.filter(due__isnull=False).update(due=timezone.now())
                _gone(rows.filter(state__in=GOING))


def _newer(message: Message) -> Q:
    """Whether a row has not seen what the message says.

    A listener that has missed messages asks, and is answered with the `seq` of the newest, which it may know;
    0 is that of none that is kept.
    """
    if message.raw.get("type") != "upload.status":
        return Q(seq__lt=message.seq)
    return Q(seq__lte=message.seq) if message.seq else Q()


def _ready(message: Message, rows: QuerySet[Upload]) -> None:
    original: Any = message.original if isinstance(message.original, dict) else {}
    thumbhash, placeholder, color = message.thumbhash or "", "", original.get("color") or ""
    try:
        placeholder = data_uri(thumbhash) if thumbhash else ""
    except ValueError:  # one of a later worker is no reason to show nothing
        thumbhash = ""
    names = ("name", "key", "url", "width", "height", "bytes")
    rows.update(
        state=State.READY,
        seq=_highest(message),
        variants=[{name: getattr(one, name) for name in names} for one in message.variants],
        srcset=message.srcset,
        color=color if _COLOR.fullmatch(color) else "",
        thumbhash=thumbhash,
        placeholder=placeholder,
        replaces=None,
        error_code="",
        error_message="",
        due=_still_due(),
        changed=timezone.now(),
    )


def _failed(message: Message, rows: QuerySet[Upload]) -> None:
    count = rows.update(
        state=State.FAILED,
        seq=_highest(message),
        due=_still_due(),
        changed=timezone.now(),
        **_reason(message),
    )
    if count:
        _tell(rows.model._base_manager.using(rows.db).filter(pk=message.id).first())


def _tell(upload: Upload | None) -> None:
    """Have the log say what no visitor can help."""
    if upload is None or upload.error_code in OF_THE_PICTURE:
        return
    logger.error("%s failed (%s): %s", upload.source, upload.error_code, upload.error_message)
    storage = upload.storage
    if upload.error_code == "source_missing" and isinstance(storage, FileSystemStorage):
        with suppress(OSError, SuspiciousOperation):
            if storage.exists(upload.source):
                logger.error(
                    "It is in %s: is that what the worker's MEDIA_STORAGE_URL names?", storage.location
                )


def _refused(message: Message, uploads: QuerySet[Upload]) -> None:
    """The event itself was refused: asking again would not help."""
    rows = uploads.filter(source=message.source or "", state__in=UNFINISHED)
    for upload in list(rows):
        failed = {"state": State.FAILED, **_reason(message)}
        if rows.filter(pk=upload.pk).update(**failed, due=None, changed=timezone.now()):
            vars(upload).update(failed)
            _tell(upload)


def _deleted(message: Message, rows: QuerySet[Upload]) -> None:
    if message.raw.get("replaced_by"):
        # An instance that was loaded before the replacement may have put the old file back into its row.
        _gone(rows.filter(state__in=[State.READY, *GOING]))
        return
    # An upload that waits is answered once more: that it was deleted tells of an earlier life.
    rows.filter(state__in=[State.READY, State.FAILED]).update(
        state=State.DELETED, seq=_highest(message), due=None, changed=timezone.now(), **_NOTHING_SHOWN
    )
    _gone(rows.filter(state__in=GOING), **_NOTHING_SHOWN)


def _gone(rows: QuerySet[Upload], **shown: Any) -> None:
    """Delete the rows of uploads that are no more; those whose file is in use after all begin anew."""
    for upload in list(rows):
        if announce_again(upload, **shown):
            continue
        count, _models = rows.filter(pk=upload.pk).delete()
        if count and conf.option("DELETE_ORIGINALS"):
            remove = upload.storage.delete
            transaction.on_commit(
                lambda remove=remove, name=upload.source: remove(name), using=upload._state.db, robust=True
            )


def _still_due() -> Case:
    """None, unless an event has not reached Redis yet: the message is the answer to one before it."""
    return Case(When(due__lte=timezone.now(), then=F("due")), default=None)


def _highest(message: Message) -> Greatest:
    return Greatest("seq", Value(message.seq))


def _reason(message: Message) -> dict[str, str]:
    error = message.error
    return {"error_code": error.code[:64] if error else "", "error_message": error.message if error else ""}
