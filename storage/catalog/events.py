"""What an event does to an upload: the state machine, as functions without a database."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from storage.catalog.records import (
    WAITING,
    DeletionRequested,
    Original,
    OriginalFate,
    State,
    StreamId,
    Upload,
    UploadRequested,
)
from storage.catalog.rows import Row, dump_metadata, to_upload

_UNSIGNED = 2**64 - 1
GOING = (State.DELETING, State.DELETED)
NOTHING_READ: Row = dict.fromkeys((*Original.__dataclass_fields__, "placeholder_of"))


@dataclass(frozen=True)
class Change:
    """A row as it is to be, and whether it waits for a new job or answers at once."""

    row: Row
    wants_job: bool = False
    answers: bool = False


@dataclass(frozen=True)
class Outdated:
    """The event is older than what the row has, or the same: it changes nothing, and is answered.

    What a bucket reports is as old as the original: it comes late and more than once, and nobody has asked
    for an upload anew.
    """


@dataclass(frozen=True)
class NotYours:
    """The event's id belongs to another source, or to one that its app may not speak of."""


@dataclass(frozen=True)
class Absent:
    """An app may not delete what it never announced: that leaves no row, and is answered as deleted.

    The row would have the place of an upload that another app is about to announce.
    """


def apply(
    row: Row | None, event: UploadRequested | DeletionRequested, now_ms: int
) -> Change | Outdated | NotYours | Absent:
    """The change that `event` makes to `row` (None: an id never seen), or why it makes none."""
    if event.domain is not None and isinstance(event, DeletionRequested):
        source = row["source"] if row is not None else None
        if source is None:
            return Absent()
        if not event.domain.holds(source):
            return NotYours()
    if row is not None and isinstance(event, UploadRequested) and row["source"] not in (None, event.source):
        return NotYours()
    if row is not None and (event.position <= position_of(row) or _is_deleted_since(row, event)):
        return Outdated()
    return (
        _request_deletion(row, event, now_ms)
        if isinstance(event, DeletionRequested)
        else _request_upload(row, event, now_ms)
    )


def announced_upload(event: UploadRequested) -> Upload:
    """The upload as it will be once that event, the first about it, was taken."""
    return to_upload(_request_upload(None, event, event.position.ms).row, ())


def _is_deleted_since(row: Row, event: UploadRequested | DeletionRequested) -> bool:
    """Whether the upload was deleted after a bucket wrote the original that it reports."""
    if isinstance(event, DeletionRequested) or event.written_ms is None or row["state"] not in GOING:
        return False
    # The ID of the entry is the time of the deletion, unless the stream's IDs are ahead of all clocks.
    deleted_ms: int = min(position_of(row).ms, row["changed_ms"])
    return event.written_ms <= deleted_ms


def _request_upload(row: Row | None, event: UploadRequested, now_ms: int) -> Change:
    changes = {
        **_at_position(event.position, now_ms),
        "traceparent": _traceparent(row, event),
        "source": event.source,
        "owner": event.owner,
        "recipe": event.recipe,
        "adopted": event.adopted,
        "metadata": dump_metadata(event.metadata),
        "attempts": 0,
        "crash_count": 0,
        "queued_ms": now_ms,
        "not_before_ms": now_ms,
        "replaces": _replaced(row, event),
        "replaced_by": None,
        "original_fate": None,
    }
    if row is None:
        return Change({**_blank(str(event.id), now_ms), **changes, "state": State.QUEUED}, wants_job=True)
    match row["state"]:
        case State.QUEUED:
            return Change({**row, **changes, "not_before_ms": row["not_before_ms"]})
        case State.PROCESSING:
            return Change({**row, **changes, "generation": row["generation"] + 1})
        case State.DELETING:
            # Wanted again, so its original is too.
            return Change({**row, **changes, "revive": True, "delete_original": False})
        case _:
            return Change({**row, **changes, "state": State.QUEUED, "seen": None}, wants_job=True)


def _request_deletion(row: Row | None, event: DeletionRequested, now_ms: int) -> Change:
    fresh = {"revive": False, "attempts": 0, "crash_count": 0, "not_before_ms": now_ms, "replaces": None}
    changes = {**_at_position(event.position, now_ms), **fresh, "traceparent": _traceparent(row, event)}
    if row is None:
        return Change({**tombstone(event.id, event.position, now_ms), **changes}, answers=True)
    changes |= {"state": State.DELETING, "delete_original": row["delete_original"] or event.original}
    match row["state"]:
        case State.QUEUED | State.DELETING:
            # A job that is put off comes too late: what is to be deleted goes at once.
            return Change({**row, **changes}, wants_job=row["not_before_ms"] > now_ms)
        case State.PROCESSING:
            # Whoever works on it now must not write its result any more.
            fenced = {"claim": row["claim"] + 1, "holder": None}
            return Change({**row, **changes, **fenced}, wants_job=True)
        case _:
            return Change({**row, **changes}, wants_job=True)


def _replaced(row: Row | None, event: UploadRequested) -> str | None:
    """What the upload replaces once it is ready: an event that does not say so changes nothing about it."""
    if row is not None and row["state"] == State.READY and row["replaces"]:
        # The rest of a chain that was too long at once: an event that is sent again names its head.
        return str(row["replaces"])
    if event.replaces is not None:
        return str(event.replaces)
    if row is None or (row["state"] in GOING and not row["revive"]):
        return None  # a worker of the version before leaves it when the upload is deleted
    replaces: str | None = row["replaces"]
    return replaces


def _traceparent(row: Row | None, event: UploadRequested | DeletionRequested) -> str | None:
    """The newest event's; where it has none, that of the work which is not done yet and answers both."""
    pending = row["traceparent"] if row is not None and row["state"] in WAITING else None
    return event.traceparent or pending


def _at_position(position: StreamId, now_ms: int) -> dict[str, Any]:
    return {**position_columns(position), "changed_ms": now_ms}


def position_columns(position: StreamId) -> dict[str, int]:
    """The columns of a row that say which event was applied to it."""
    return {
        "event_ms": _signed(position.ms),
        "event_n": _signed(position.n),
        "event_epoch": position.epoch,
    }


def position_of(row: Mapping[str, Any]) -> StreamId:
    """The newest event that was applied to `row`."""
    return StreamId(row["event_ms"] & _UNSIGNED, row["event_n"] & _UNSIGNED, row["event_epoch"])


def _signed(number: int) -> int:
    """A number of an ID, which has 64 bits and no sign, as a column holds it."""
    return number if number <= _UNSIGNED >> 1 else number - _UNSIGNED - 1


def tombstone(upload_id: UUID, position: StreamId, now_ms: int) -> Row:
    """The row of an id that was deleted at that position, and never seen."""
    gone = {"state": State.DELETED, "not_before_ms": now_ms, "original_fate": OriginalFate.MISSING}
    return {**_blank(str(upload_id), now_ms), **_at_position(position, now_ms), **gone}


def _blank(upload_id: str, now_ms: int) -> Row:
    return {
        "id": upload_id,
        "source": None,
        "owner": None,
        "account": None,
        "recipe": "default",
        "metadata": "{}",
        "job_id": "",
        "generation": 0,
        "claim": 0,
        "holder": None,
        "crash_count": 0,
        "attempts": 0,
        "queued_ms": now_ms,
        "revive": False,
        "delete_original": False,
        "adopted": False,
        "error_code": None,
        "error_message": None,
        "seen": None,
        "traceparent": None,
        "replaces": None,
        "replaced_by": None,
        "original_fate": None,
        **NOTHING_READ,
    }
