"""Events become rows: one transaction for a whole batch."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import overload
from uuid import UUID

from sqlalchemy import and_, bindparam, or_, select, update

from storage.catalog import outbox
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.dead_letters import insert_dead_letters
from storage.catalog.epochs import Epoch, note_taken, read_epoch
from storage.catalog.events import GOING, Absent, NotYours, Outdated, apply
from storage.catalog.expressions import effective_account, effective_owner
from storage.catalog.parking import spread
from storage.catalog.records import (
    DeadLetter,
    DeletionRequested,
    Domain,
    Message,
    OriginalFate,
    PossibleRestart,
    State,
    StoredVariant,
    StreamId,
    Taken,
    UploadRequested,
)
from storage.catalog.replacing import app_of, may_replace
from storage.catalog.rows import Row, message_of, to_variant
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.tables import PARKED, uploads, variants

Event = UploadRequested | DeletionRequested
Read = Sequence[tuple[Event, DeadLetter]]
Refused = Sequence[DeadLetter]
Admit = Callable[[Sequence[str]], Sequence[bool]]
"""Says of uploads that want a job, by their owners, which get one now. It may be asked more than once."""


# What a claim, an outcome, another event or the reconciler changes: an event does to a row what it does to
# the row that was read, and to no other.
_DECISIVE = ("state", "claim", "generation", "job_id", "event_epoch", "event_ms", "event_n")
_CHANGE = update(uploads).where(
    *(uploads.c[name] == bindparam(f"seen_{name}") for name in ("id", *_DECISIVE)),
)
_INSERT = insert(uploads).on_conflict_do_nothing(index_elements=["id"]).returning(uploads.c.id)


class ChangedMeanwhile(Exception):
    """Somebody else has changed what was read; nothing is written, and everything is done once more."""


class _Restarts(Exception):
    """Nothing is taken, and what was written is undone."""

    def __init__(self, restart: PossibleRestart) -> None:
        super().__init__()
        self.restart = restart


def _admit_all(owners: Sequence[str]) -> Sequence[bool]:
    return [True] * len(owners)


def admit_none(owners: Sequence[str]) -> Sequence[bool]:
    """All are parked: who is no worker has no places, and what nobody asked for by an event takes turns."""
    return [False] * len(owners)


class EventStore:
    """The door through which events enter the catalog."""

    def __init__(self, database: Database, uploads_per_job: int, domains: Sequence[Domain] = ()) -> None:
        self._database = database
        self._uploads_per_job = uploads_per_job
        self._domains = domains

    @overload
    async def take(self, events: Read, letters: Refused, *, admit: Admit = ...) -> Taken: ...

    @overload
    async def take(
        self, events: Read, letters: Refused, *, epoch: int, same_stream: bool, admit: Admit = ...
    ) -> Taken | PossibleRestart: ...

    @repeated
    async def take(
        self,
        events: Read,
        letters: Refused,
        *,
        epoch: int | None = None,
        same_stream: bool = False,
        admit: Admit = _admit_all,
    ) -> Taken | PossibleRestart:
        """Apply `events` in order and keep `letters`, all or nothing.

        Each event comes with the letter that it becomes should the catalog refuse it. Uploads that now
        wait for work are spread over new jobs, as far as they are admitted; the others are parked.

        With `epoch` they were read from the stream when it was thought to be in that. Then nothing is
        taken where it is in another, or, unless it is known to be the `same_stream`, where entries of
        this epoch are not newer than all that were taken in it.

        Raises: CatalogUnavailable.
        """
        place = _Place(_positions(events, letters), epoch, same_stream)
        while True:
            with suppress(ChangedMeanwhile):
                try:
                    async with self._database.writing() as connection:
                        current = await place.check(connection)
                        now = self._database.now_ms()
                        spread_over = partial(_spread, admit, self._uploads_per_job)
                        account_of = partial(_account_of, self._domains)
                        foreign = await _find_foreign(connection, events, self._domains)
                        taken = await _take(
                            connection, events, letters, foreign, spread_over, account_of, now
                        )
                        # Last, because the intakes of all hosts wait for each other from here on.
                        await place.note(connection, current)
                        return taken
                except _Restarts as found:
                    return found.restart


def _positions(events: Read, letters: Refused) -> Sequence[StreamId]:
    return [*(event.position for event, _ in events), *(letter.position for letter in letters)]


@dataclass(frozen=True)
class _Place:
    """Where entries were read: in which epoch of the stream (None: nowhere), as far as their reader knows."""

    positions: Sequence[StreamId]
    epoch: int | None
    same_stream: bool

    async def check(self, connection: AsyncConnection, *, alone: bool = False) -> Epoch:
        """The stream's epoch; if `alone`, it stays that. Raises: _Restarts where nothing may be taken."""
        if self.epoch is None:
            return Epoch()
        current = await read_epoch(connection, alone=alone)
        newest = current.newest
        is_old = newest is not None and any(position <= newest for position in self._of(current))
        if current.number != self.epoch or (is_old and not self.same_stream):
            raise _Restarts(PossibleRestart(current.number, newest))
        return current

    async def note(self, connection: AsyncConnection, current: Epoch) -> None:
        """The newest entry counts as taken from now on. Raises: _Restarts, ChangedMeanwhile."""
        if self.epoch is None or await self._note(connection, current):
            return
        current = await self.check(connection, alone=True)  # another intake may have ended since
        if self._newest(current) and not await self._note(connection, current):
            raise ChangedMeanwhile

    async def _note(self, connection: AsyncConnection, current: Epoch) -> bool:
        newest = self._newest(current)
        return newest is not None and await note_taken(connection, current, newest)

    def _newest(self, current: Epoch) -> StreamId | None:
        """The newest entry, if it is newer than all that were taken."""
        newest = max(self._of(current), key=lambda position: (position.ms, position.n), default=None)
        return None if newest is None or (current.newest and newest <= current.newest) else newest

    def _of(self, current: Epoch) -> Sequence[StreamId]:
        return [position for position in self.positions if position.epoch == current.number]


@dataclass(frozen=True)
class _Spread:
    """Uploads on new jobs, and those that are parked; each has an owner."""

    jobs: Mapping[str, Sequence[str]]
    owners: Mapping[str, str]
    parked: Sequence[str]


def _spread(admit: Admit, uploads_per_job: int, rows: Sequence[Row]) -> _Spread:
    owners = {row["id"]: effective_account(row) for row in rows}
    admitted = dict(zip(owners, admit(list(owners.values())), strict=True))
    jobs = spread([each for each in owners if admitted[each]], uploads_per_job)
    return _Spread(jobs, owners, [each for each in owners if not admitted[each]])


def _account_of(domains: Sequence[Domain], row: Row) -> str | None:
    """The account of an upload of an app with a stream; None: it is its owner's name.

    An owner of no app whose name is such an account has another: no app's begins with a colon.
    """
    source = row["source"]
    whose = app_of(source, domains)
    owner = effective_owner(row["owner"], source)
    if whose:
        return whose.account_of(owner)
    taken = tuple(domain.account_of("") for domain in domains)
    return f":{owner}" if taken and owner.startswith((":", *taken)) else None


async def _take(
    connection: AsyncConnection,
    events: Read,
    letters: Refused,
    foreign: Collection[str],
    spread_over: Callable[[Sequence[Row]], _Spread],
    account_of: Callable[[Row], str | None],
    now: int,
) -> Taken:
    refused = [
        replace(letter, message=letter.may_not_replace or letter.message)
        for _, letter in events
        if letter.stream_id in foreign
    ]
    events = [pair for pair in events if pair[1].stream_id not in foreign] if refused else events
    rows, adopted = await _find(connection, [event for event, _ in events])
    known = dict(rows)
    waiting: dict[str, None] = {}
    answered: dict[str, None] = {}
    outdated: list[str] = []
    absent: list[Message] = []
    for event, letter in _with_takeovers(events, adopted):
        change = apply(rows.get(str(event.id)), event, now)
        if isinstance(change, NotYours):
            refused.append(letter)
        elif isinstance(change, Absent):
            absent.append(_never_there(event, now))
        elif isinstance(change, Outdated):
            if not _is_adoption(event):
                outdated.append(letter.stream_id)
                answered[str(event.id)] = None
        else:
            rows[str(event.id)] = {**change.row, "account": account_of(change.row)}
            if change.wants_job:
                waiting[str(event.id)] = None
            if change.answers:
                answered[str(event.id)] = None
    chosen = spread_over([rows[each] for each in waiting])
    for job_id, ids in {**chosen.jobs, PARKED: chosen.parked}.items():
        for upload_id in ids:
            rows[upload_id] = {**rows[upload_id], "job_id": job_id}
    await _store(connection, rows, known)
    new = await insert_dead_letters(connection, letters, refused, now)
    answers = await _present(connection, [rows[each] for each in answered], now)
    messages = await outbox.insert_messages(connection, [*answers, *absent, *_refusals(new, now)])
    return Taken(
        jobs={job_id: [UUID(each) for each in ids] for job_id, ids in chosen.jobs.items()},
        refused=refused,
        messages=messages,
        outdated=outdated,
        owners={UUID(each): chosen.owners[each] for ids in chosen.jobs.values() for each in ids},
        parked={chosen.owners[each] for each in chosen.parked},
    )


async def _find_foreign(
    connection: AsyncConnection, events: Read, domains: Sequence[Domain]
) -> Collection[str]:
    """The entries that would have an app's upload take the place of another app's, where that is there."""
    wanted = [
        (event, letter)
        for event, letter in events
        if isinstance(event, UploadRequested) and event.replaces and app_of(event.source, domains)
    ]
    if not wanted:
        return frozenset()
    ids = sorted({str(event.replaces) for event, _ in wanted})
    found = await connection.execute(select(uploads.c.id, uploads.c.source).where(uploads.c.id.in_(ids)))
    sources: dict[str, str | None] = {row.id: row.source for row in found}
    return {
        letter.stream_id
        for event, letter in wanted
        if (old := str(event.replaces)) in sources and not may_replace(event.source, sources[old], domains)
    }


def _with_takeovers(
    events: Sequence[tuple[Event, DeadLetter]], adopted: Mapping[str, Row]
) -> Iterator[tuple[Event, DeadLetter]]:
    """The events, each that names an adopted upload's source under another id followed by its removal."""
    by_source = {row["source"]: UUID(row["id"]) for row in adopted.values()}
    for event, letter in events:
        yield event, letter
        if isinstance(event, UploadRequested) and not _is_adoption(event):
            adopted_id = by_source.pop(event.source, event.id)
            if adopted_id != event.id:
                yield DeletionRequested(event.position, adopted_id), letter


def _is_adoption(event: Event) -> bool:
    return isinstance(event, UploadRequested) and event.adopted


async def _find(
    connection: AsyncConnection, events: Sequence[Event]
) -> tuple[dict[str, Row], dict[str, Row]]:
    """The rows that events are about, and those of adopted uploads whose sources they announce.

    Nobody else changes either in this transaction (where several can write): all are locked in one order.
    """
    ids = sorted({str(event.id) for event in events})
    sources = {event.source for event in events if isinstance(event, UploadRequested) and not event.adopted}
    mine = uploads.c.id.in_(ids)
    taken_over = and_(uploads.c.source.in_(sorted(sources)), uploads.c.adopted, uploads.c.state.not_in(GOING))
    query = select(uploads).where(or_(mine, taken_over) if sources else mine)
    locked = query.order_by(uploads.c.id).with_for_update(key_share=True)
    rows = {row["id"]: dict(row) for row in (await connection.execute(locked)).mappings()}
    adopted = {
        upload_id: row
        for upload_id, row in rows.items()
        if row["adopted"] and row["source"] in sources and row["state"] not in GOING
    }
    return rows, adopted


async def _store(connection: AsyncConnection, rows: dict[str, Row], known: dict[str, Row]) -> None:
    """Raises: ChangedMeanwhile where a row is not any more as it is `known`."""
    new = [row for upload_id, row in sorted(rows.items()) if upload_id not in known]
    if new and len((await connection.execute(_INSERT, new)).all()) != len(new):
        raise ChangedMeanwhile
    for upload_id, before in known.items():
        seen = {f"seen_{name}": before[name] for name in ("id", *_DECISIVE)}
        changes = {name: value for name, value in rows[upload_id].items() if name not in ("number", "id")}
        if not (await connection.execute(_CHANGE, {**seen, **changes})).rowcount:
            raise ChangedMeanwhile


def _never_there(event: Event, now: int) -> Message:
    stream = event.domain.stream if event.domain else None
    gone = Message(0, State.DELETED, event.id, None, "", {}, now, traceparent=event.traceparent)
    return replace(gone, stream=stream, original_fate=OriginalFate.MISSING)


def _refusals(letters: Sequence[DeadLetter], now: int) -> Iterator[Message]:
    for letter in letters:
        if (about := letter.about) is not None:
            yield Message(
                seq=0,
                kind=State.FAILED,
                id=about.id,
                source=about.source,
                recipe="",
                metadata=about.metadata,
                time_ms=now,
                error_code=letter.code,
                error_message=letter.message,
                entry=about.entry or letter.stream_id,
                traceparent=about.traceparent,
                stream=about.stream,
            )


async def _present(connection: AsyncConnection, rows: Sequence[Row], now: int) -> Sequence[Message]:
    """The present state of those uploads that nobody works on; of the others a message is to come."""
    final = [row for row in rows if row["state"] in (State.READY, State.FAILED, State.DELETED)]
    ready = [row["id"] for row in final if row["state"] == State.READY]
    made: dict[str, list[StoredVariant]] = {upload_id: [] for upload_id in ready}
    if ready:
        current = variants.c.upload_id.in_(ready), variants.c.superseded_ms.is_(None)
        found = await connection.execute(select(variants).where(*current).order_by(variants.c.number))
        for variant in found.mappings():
            made[variant["upload_id"]].append(to_variant(dict(variant)))
    return [message_of(row, row["metadata"], made.get(row["id"], ()), now) for row in final]
