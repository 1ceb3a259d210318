"""What happened to uploads after a copy of their catalog was made is applied to that copy again.

The events themselves are gone: each comes right behind the newest one that its row has, so that any event
that still waits in the stream is newer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, null, select

from storage.catalog import schema
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.events import GOING, position_of
from storage.catalog.intake import Event, EventStore, admit_none
from storage.catalog.outbox import insert_messages
from storage.catalog.paging import pages
from storage.catalog.records import (
    WAITING,
    DeadLetter,
    DeletionRequested,
    Metadata,
    OriginalFate,
    State,
    StreamId,
    UploadRequested,
)
from storage.catalog.replacing import take_place
from storage.catalog.rows import Row, load_json
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import uploads
from storage.catalog.tokens import count

_LAST = 2**64 - 1
# A catalog that is about to be replaced may not have been migrated yet.
_OF_ANY_SCHEMA = tuple(uploads.c[name] for name in ("id", "state", "revive", "source", "recipe", "metadata"))
_FIRST_WITH_OWNERS = "1002"
_FIRST_THAT_REPLACES = "1011"
_PENDING = select(uploads).where(uploads.c.replaces.is_not(None))
_NOBODYS = DeadLetter("0-0", "invalid_event", "a restore has found it in a message", b"")


@dataclass(frozen=True)
class LaterState:
    """How an upload was later: deleted, or announced with this source, recipe, metadata and owner.

    `source` is None where nobody knows it any more; `recipe` and `owner` where they are those that the row
    has. An owner of "" is that of the source's folder. A deleted one may be `replaced_by` another; one that
    waits `replaces` what was not announced again since.
    """

    id: UUID
    deleted: bool
    source: str | None
    recipe: str | None = None
    metadata: Metadata | None = None
    owner: str | None = None
    replaced_by: UUID | None = None
    replaces: UUID | None = None


@dataclass(frozen=True)
class Trashed:
    """The original of a deleted upload in the trash: whose, which, and by which claim it was moved there."""

    id: UUID
    source: str
    claim: int


async def waiting_since(database: Database, since_ms: int) -> Sequence[LaterState]:
    """The uploads that wait since then or later, of which no message tells yet; adopted ones are left out.

    Raises: CatalogUnavailable.
    """
    waits = uploads.c.state.in_(WAITING), uploads.c.changed_ms >= since_ms, ~uploads.c.adopted
    query = select(*_OF_ANY_SCHEMA).where(*waits).order_by(uploads.c.number)
    async with database.reading(patient=True) as connection:
        found = str(await connection.run_sync(schema.read))
        knows_owners = found >= _FIRST_WITH_OWNERS
        owner = func.coalesce(uploads.c.owner, "") if knows_owners else null()
        rows = (await connection.execute(query.add_columns(owner.label("owner")))).mappings().all()
        replaces = await _replaced_by(connection) if found >= _FIRST_THAT_REPLACES else {}
    return [
        LaterState(
            UUID(row["id"]),
            deleted=row["state"] == State.DELETING and not row["revive"],
            source=row["source"],
            recipe=row["recipe"],
            metadata=load_json(row["metadata"]),
            owner=row["owner"],
            replaces=replaces.get(row["id"]),
        )
        for row in rows
    ]


async def _replaced_by(connection: AsyncConnection) -> Mapping[str, UUID]:
    """What each upload replaces once it is ready, by its id; none that was announced again since."""
    replacing = [dict(row) for row in (await connection.execute(_PENDING)).mappings()]
    newest: dict[str, StreamId] = {}
    for page in pages([row["replaces"] for row in replacing]):
        found = await connection.execute(select(uploads).where(uploads.c.id.in_(page)))
        newest |= {row["id"]: position_of(dict(row)) for row in found.mappings()}
    return {
        row["id"]: UUID(row["replaces"])
        for row in replacing
        if newest.get(row["replaces"], StreamId()) <= position_of(row)
    }


async def owners_since(database: Database, since_ms: int) -> Mapping[UUID, str]:
    """The owners that events name of the uploads that changed then or later; "" where they name none.

    No message tells them; of a catalog that was not migrated yet there are none. Raises: CatalogUnavailable.
    """
    query = select(uploads.c.id, func.coalesce(uploads.c.owner, "")).where(uploads.c.changed_ms >= since_ms)
    async with database.reading(patient=True) as connection:
        if str(await connection.run_sync(schema.read)) < _FIRST_WITH_OWNERS:
            return {}
        return {UUID(upload_id): owner for upload_id, owner in await connection.execute(query)}


class Replay:
    """What is applied to one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database, intake: EventStore) -> None:
        self._database = database
        self._intake = intake

    async def apply(self, states: Sequence[LaterState]) -> None:
        """Park these uploads as their later states say, to be made or to be deleted.

        Those that were replaced are replaced at once: they stay served while what has replaced them is made.
        """
        async with self._database.reading() as connection:
            pending = [dict(row) for row in (await connection.execute(_PENDING)).mappings()]
        # What is known to have been announced later is not to be replaced, whichever came first.
        least = {UUID(row["replaces"]): _next(_next(position_of(row))) for row in pending}
        for page in pages(list(states)):
            if replaced := [state for state in page if state.deleted and state.replaced_by is not None]:
                await self._replace(replaced)
            rows = await self._rows([each for state in page for each in (state.id, state.replaces) if each])
            events = [event for state in page for event in _events(rows, state, least)]
            await self._intake.take([(event, _NOBODYS) for event in events], [], admit=admit_none)

    @repeated
    async def _replace(self, states: Sequence[LaterState]) -> None:
        now = self._database.now_ms()
        rows = await self._rows([state.id for state in states])
        async with self._database.writing() as connection:
            for state in states:
                row = rows.get(state.id)
                if row is not None and state.replaced_by is not None:
                    place, fate = _next(position_of(row)), OriginalFate.KEPT
                    message = await take_place(connection, row, state.replaced_by, place, fate, now)
                    await insert_messages(connection, [message] if message else [])

    async def deleted_later(self, trashed: Sequence[Trashed]) -> Sequence[LaterState]:
        """Those whose rows do not know of their deletion: it came after the newest claim that they have."""
        found: list[LaterState] = []
        for page in pages(list(trashed)):
            rows = await self._rows([one.id for one in page])
            for one in page:
                row = rows.get(one.id)
                knows = row is None or row["state"] in GOING or row["source"] != one.source
                if not knows and row is not None and count(one.claim) > count(row["claim"]):
                    found.append(LaterState(one.id, deleted=True, source=one.source))
        return found

    async def _rows(self, ids: Sequence[UUID]) -> Mapping[UUID, Row]:
        query = select(uploads).where(uploads.c.id.in_([str(each) for each in ids]))
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).mappings().all()
        return {UUID(row["id"]): dict(row) for row in found}


def _events(rows: Mapping[UUID, Row], state: LaterState, least: Mapping[UUID, StreamId]) -> Sequence[Event]:
    """What has an upload be as later; where it is announced, not before its place in `least`."""
    row = rows.get(state.id)
    is_gone = row is not None and row["state"] in GOING
    place = StreamId() if row is None else _next(position_of(row))
    if state.deleted:
        deletion = DeletionRequested(_next(place) if row is None else place, state.id)
        if row is None and state.source is not None:  # it keeps the original from being adopted
            return [_announcement(place, row, state), deletion]
        return [] if is_gone else [deletion]
    if state.source is None:
        return []
    if state.replaces is not None and state.replaces in rows:
        place = _later(place, _next(_next(position_of(rows[state.replaces]))))
    return [_announcement(_later(place, least.get(state.id, place)), row, state)]


def _announcement(place: StreamId, row: Row | None, state: LaterState) -> UploadRequested:
    kept = str(row["recipe"]) if row is not None else "default"
    owner = row["owner"] if row is not None and state.owner is None else state.owner
    return UploadRequested(
        place,
        state.id,
        state.source or "",
        state.recipe or kept,
        dict(state.metadata or {}),
        owner=owner or None,
        replaces=state.replaces,
    )


def _later(one: StreamId, other: StreamId) -> StreamId:
    return other if one <= other else one


def _next(position: StreamId) -> StreamId:
    if position.n < _LAST:
        return StreamId(position.ms, position.n + 1, position.epoch)
    return StreamId(position.ms + 1, 0, position.epoch)
