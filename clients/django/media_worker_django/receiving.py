"""What becomes of a message: the row of its upload; and the place in the stream."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from media_worker_django import conf
from media_worker_django.announcing import is_in_use
from media_worker_django.models import GOING, UNFINISHED, Position, State, Upload
from media_worker_django.thumbhashes import data_uri

if TYPE_CHECKING:
    from media_worker_client import Message

logger = logging.getLogger("media_worker_django")
_COLOR = re.compile("#[0-9a-f]{6}")  # what pages have in a style


class DatabaseCursor:
    """The place in the stream of messages, in the app's database.

    It is kept after the row of a message: what comes twice is dropped by its `seq`, and nothing is lost.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream

    def load(self) -> str | None:
        """The ID of the last message that was handled."""
        entry_id = Position.objects.filter(pk=self.stream).values_list("entry_id", flat=True).first()
        return entry_id or None

    def save(self, last_id: str) -> None:
        """Keep it."""
        self._update(entry_id=last_id)

    def touch(self) -> None:
        """Keep that somebody listens."""
        self._update()

    def _update(self, **values: str) -> None:
        # The write comes first: SQLite then waits for its turn.
        if not Position.objects.filter(pk=self.stream).update(seen=timezone.now(), **values):
            Position.objects.get_or_create(stream=self.stream, defaults=values)


def receive(message: Message) -> None:
    """Write down what a message says, in one transaction."""
    with transaction.atomic():
        apply(message)


def pending_ids() -> list[str]:
    """The uploads whose outcome this app waits for: a listener that has missed messages asks for them."""
    rows = Upload.objects.filter(Q(due__isnull=False) | Q(state__in=GOING))
    return [str(pk) for pk in rows.values_list("pk", flat=True)]


def apply(message: Message) -> None:
    """Write down what a message says, unless a newer one has said more.

    Each row changes in a statement that begins with its condition: SQLite then locks before it reads.
    """
    if message.entry is not None:
        _refused(message)
    elif message.id is not None:
        rows = Upload.objects.filter(pk=message.id)
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
        due=None,
        changed=timezone.now(),
    )


def _failed(message: Message, rows: QuerySet[Upload]) -> None:
    rows.update(
        state=State.FAILED, seq=_highest(message), due=None, changed=timezone.now(), **_reason(message)
    )


def _refused(message: Message) -> None:
    """The event itself was refused: asking again would not help."""
    rows = Upload.objects.filter(source=message.source or "", state__in=UNFINISHED)
    rows.update(state=State.FAILED, due=None, changed=timezone.now(), **_reason(message))


def _deleted(message: Message, rows: QuerySet[Upload]) -> None:
    # An upload that waits is answered once more: that it was deleted tells of an earlier life.
    rows.filter(state__in=[State.READY, State.FAILED]).update(
        state=State.DELETED,
        seq=_highest(message),
        variants=[],
        srcset="",
        placeholder="",
        due=None,
        changed=timezone.now(),
    )
    _gone(rows.filter(state__in=GOING))


def _gone(rows: QuerySet[Upload]) -> None:
    for upload in list(rows):
        count, _models = rows.filter(pk=upload.pk).delete()
        if count and conf.option("DELETE_ORIGINALS") and not is_in_use(upload.source, rows.db):
            transaction.on_commit(lambda upload=upload: upload.storage.delete(upload.source), robust=True)


def _highest(message: Message) -> Greatest:
    return Greatest("seq", Value(message.seq))


def _reason(message: Message) -> dict[str, str]:
    error = message.error
    return {"error_code": error.code[:64] if error else "", "error_message": error.message if error else ""}
