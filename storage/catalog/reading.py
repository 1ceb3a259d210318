"""Quick reads for a server that answers many: each is one statement, and one visit to a thread on SQLite."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol
from uuid import UUID

import orjson

from storage.catalog import reading_queries as queries
from storage.catalog import schema
from storage.catalog.address import Address
from storage.catalog.database import open_to_read, schema_of
from storage.catalog.dead_letters import to_letter
from storage.catalog.http_keys import ALL_KEYS, HttpKey, to_key
from storage.catalog.reading_queries import PageShape, Query
from storage.catalog.records import DeadLetter, Message, State, StoredVariant, Upload
from storage.catalog.replicas import OnReplica
from storage.catalog.rows import to_message, to_upload
from storage.errors import CatalogAway, CatalogDamaged

Rows = Sequence[Mapping[str, Any]]

FEW = 1000  # uploads that are sorted for a page: a few ms, where looking for them among all may take seconds
LOOK = 2000  # uploads that are looked at to count those that fit, where no index tells
_OFTEN = (State.READY, State.DELETED)
_USUAL = "default"
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class UploadFilter:
    """Which uploads are wanted: all that are so in every respect that is given."""

    state: State | None = None
    code: str | None = None  # of the last error
    recipe: str | None = None
    since_ms: int | None = None  # changed then or later
    until_ms: int | None = None  # changed before that
    source_prefix: str | None = None  # compared byte by byte
    owner: str | None = None
    hides_deleted: bool = False  # unless the state asks for them
    is_put_off: bool = False  # waits for another try, or for another try to be deleted


@dataclass(frozen=True)
class Cursor:
    """The last upload of a page: the next page begins after it."""

    changed_ms: int
    id: UUID

    @classmethod
    def of(cls, upload: Upload) -> "Cursor":
        """Where the page goes on after that upload."""
        return cls(upload.changed_ms, upload.id)


@dataclass(frozen=True)
class PutOff:
    """How many uploads wait for another try, `has_more` where there are more; and when the next is due."""

    count: int
    next_ms: int | None
    has_more: bool


@dataclass(frozen=True)
class AtWork:
    """An upload that a worker has claimed, and since when it has it; `holder` is the worker's instance."""

    id: UUID
    source: str | None
    owner: str
    holder: str
    since_ms: int


_KINDS = {kind.value[0]: kind for kind in (State.READY, State.FAILED, State.DELETED)}


@dataclass(frozen=True, slots=True)
class MessageHead:
    """What a message says at a glance: which state its upload came to, and when.

    `refused` are those about events that became no upload. `waited_ms` is how long its upload had waited
    since its newest event was taken, or since it was queued again; None: it is not known any more.
    """

    seq: int
    kind: State
    refused: bool
    time_ms: int
    waited_ms: int | None


class ReadSource(Protocol):
    """A catalog that answers one statement at a time. Every verb raises CatalogUnavailable."""

    async def ask(self, query: Query, values: Mapping[str, Any]) -> Rows:
        """The rows of a query of `reading_queries`, by the names of their columns."""
        ...

    async def ask_newest(self, query: Query, values: Mapping[str, Any]) -> Rows:
        """The same as the catalog itself has them, unless it is away."""
        ...

    def met(self, error: CatalogDamaged) -> None:
        """Remember that the catalog is damaged."""
        ...

    @property
    def lag_s(self) -> float | None:
        """How many seconds what is read may lag behind the catalog; None: it is the catalog's own."""
        ...


class Reader:
    """What an HTTP server asks a catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, source: ReadSource) -> None:
        self._source = source

    @property
    def lag_s(self) -> float | None:
        """How many seconds what was read last may lag behind the catalog; None: the catalog is read."""
        return self._source.lag_s

    async def upload(self, upload_id: UUID) -> Upload | None:
        """The upload with its current variants, None when there is none."""
        rows = await self._source.ask(queries.ONE, {"id": str(upload_id)})
        return self._upload(rows[0]) if rows else None

    async def uploads_between(self, first: UUID, last: UUID, limit: int) -> Sequence[Upload]:
        """The first `limit` uploads from one id to another, both included, in the order of ids."""
        values = {"id": str(first), "last_id": str(last), "limit": limit}
        return [self._upload(row) for row in await self._source.ask(queries.SOME_BETWEEN, values)]

    async def upload_of_variant(self, key: str) -> Upload | None:
        """The upload that a variant is of, also a superseded one; None where no variant has that key."""
        rows = await self._source.ask(queries.ONE_OF_VARIANT, {"key": key})
        return self._upload(rows[0]) if rows else None

    async def page(self, where: UploadFilter, after: Cursor | None, limit: int) -> Sequence[Upload]:
        """The first `limit` uploads after a place, newest first, each with its current variants."""
        shape, values = _asked(where, after)
        if "behind_prefix" in values:
            shape = replace(shape, few=await self._has_few(values))
        rows = await self._source.ask(queries.page(shape), {**values, "limit": limit})
        return [self._upload(row) for row in rows]

    async def page_within(
        self, where: UploadFilter, after: Cursor | None, limit: int
    ) -> tuple[Sequence[Upload], Cursor | None]:
        """The same in constant time, and where the next page begins, None where there is none.

        The first LOOK uploads of an index are looked at, so a page may be short, though another follows.
        """
        shape, values = _asked(where, after)
        shape = replace(shape, few="behind_prefix" in values and await self._has_few(values))
        query = queries.page(shape) if shape.few else queries.page_within(shape)
        values |= {"limit": limit + 1, "look": LOOK}
        found = [self._upload(row) for row in await self._source.ask(query, values)]
        if len(found) > limit:
            return found[:limit], Cursor.of(found[limit - 1])
        ended = [] if shape.few else await self._source.ask(queries.place_after(shape), values)
        return found, Cursor(ended[0]["changed_ms"], UUID(ended[0]["id"])) if ended else None

    async def _has_few(self, values: Mapping[str, Any]) -> bool:
        """Whether so few uploads have a prefix of sources that all are read and sorted."""
        [row] = await self._source.ask(queries.COUNT_BELOW, {**values, "limit": FEW + 1})
        count: int = row["count"]
        return count <= FEW

    async def count(self, where: UploadFilter, most: int) -> int | None:
        """How many uploads are so, `most` where there are as many or more.

        State, code, recipe or owner, in a span of time, or a prefix of sources are counted by an index alone.
        Of a combination, LOOK uploads of one of these indexes are looked at; None: they do not tell.
        """
        shape, values = _asked(where, None)
        shapes = [replace(shape, few=True)] if "behind_prefix" in values else []
        for each in (*shapes, shape):
            [row] = await self._source.ask(queries.count(each), {**values, "limit": most, "look": LOOK})
            fitting: int = row["fitting"]
            if fitting >= most or row["looked_at"] < LOOK:
                return fitting
        return None

    async def failures_by_code(
        self,
        since_ms: Sequence[int],
        most: int,
        *,
        owner: str | None = None,
        source_prefix: str | None = None,
    ) -> Mapping[str, Sequence[int]]:
        """How many uploads have failed with each code since each of these moments, `most` at most.

        Where many uploads have a prefix of sources, the newest LOOK failures (of the owner) are looked at,
        and those before them are not counted.
        """
        windows = {f"since_{number}": moment for number, moment in enumerate(since_ms)}
        if source_prefix:
            some = UploadFilter(owner=owner, source_prefix=source_prefix)
            return await self._failures_of_some(windows, most, some)
        query = queries.failed_since(len(windows), of_owner=owner is not None)
        values = {**windows, "limit": most} | ({} if owner is None else {"owner": owner})
        counts = {}
        for row in await self._source.ask(queries.FAILED_CODES, {}):
            [found] = await self._source.ask(query, {**values, "code": row["detail"]})
            if any(found.values()):
                counts[row["detail"]] = list(found.values())
        return counts

    async def _failures_of_some(
        self, windows: Mapping[str, int], most: int, where: UploadFilter
    ) -> Mapping[str, Sequence[int]]:
        shape, values = _asked(replace(where, state=State.FAILED), None)
        if "behind_prefix" in values:
            shape = replace(shape, few=await self._has_few(values))
        query = queries.failed_since_of_some(shape, len(windows))
        rows = await self._source.ask(query, {**values, **windows, "look": LOOK})
        return {
            row["error_code"]: [min(count, most) for name, count in row.items() if name != "error_code"]
            for row in rows
        }

    async def put_off(self, where: UploadFilter) -> PutOff:
        """What waits for another try, of those that are so: the newest LOOK of all are looked at."""
        shape, values = _asked(replace(where, state=None, is_put_off=True), None)
        query = queries.put_off(replace(shape, few=False))
        [row] = await self._source.ask(query, {**values, "look": LOOK})
        return PutOff(row["fitting"], row["next_ms"], has_more=row["looked_at"] >= LOOK)

    async def states(self, ids: Sequence[UUID]) -> Mapping[UUID, State]:
        """The states of those of `ids` that are there."""
        found: dict[UUID, State] = {}
        for asked in _some_at_once(ids):
            rows = await self._source.ask(queries.STATES, asked)
            found |= {UUID(row["id"]): State(row["state"]) for row in rows}
        return found

    async def count_states(self, ids: Sequence[UUID]) -> Mapping[State, int]:
        """How many of `ids` are in each state."""
        counts: Counter[State] = Counter()
        for asked in _some_at_once(ids):
            rows = await self._source.ask(queries.STATE_COUNTS, asked)
            counts.update({State(row["state"]): row["count"] for row in rows})
        return counts

    async def at_work(self, most: int) -> Sequence[AtWork]:
        """The uploads that are being processed, longest first, `most` of them at most."""
        rows = await self._source.ask(queries.AT_WORK, {"limit": most})
        return [
            AtWork(UUID(row["id"]), row["source"], row["owner"], row["holder"] or "", row["changed_ms"])
            for row in rows
        ]

    async def oldest_queued_ms(self) -> int | None:
        """Since when the queued upload waits that has waited longest; None: none is queued."""
        [row] = await self._source.ask(queries.OLDEST_QUEUED, {})
        since_ms: int | None = row["changed_ms"]
        return since_ms

    async def messages(self, since: int, limit: int, upload_id: UUID | None = None) -> Sequence[Message]:
        """The first `limit` messages after that `seq`, of one upload or of all, each with its owner."""
        values: dict[str, Any] = {"since": since, "limit": limit}
        if upload_id is None:
            rows = await self._source.ask(queries.MESSAGES, values)
        else:
            rows = await self._source.ask(queries.MESSAGES_OF_ONE, {**values, "id": str(upload_id)})
        return [message for row in rows if (message := self._message(row)) is not None]

    async def newest_messages(self, upload_id: UUID, limit: int) -> Sequence[Message]:
        """The last `limit` messages about an upload, newest first."""
        rows = await self._source.ask(queries.NEWEST_OF_ONE, {"id": str(upload_id), "limit": limit})
        return [message for row in rows if (message := self._message(row)) is not None]

    async def message_heads(self, since: int, limit: int) -> Sequence[MessageHead]:
        """The heads of the first `limit` messages after that `seq`: quicker to read than the messages."""
        rows = await self._source.ask(queries.MESSAGE_HEADS, {"since": since, "limit": limit})
        return [_head(row) for row in rows]

    async def first_seq(self, since_ms: int) -> int | None:
        """The `seq` of the first message that was made then or later, None where there is none."""
        rows = await self._source.ask(queries.FIRST_SEQ_SINCE, {"since_ms": since_ms})
        return rows[0]["seq"] if rows else None

    async def newest_seq(self) -> int:
        """The `seq` of the newest message that is kept, 0 where there is none."""
        [row] = await self._source.ask(queries.NEWEST_SEQ, {})
        return row["seq"] or 0

    async def oldest_seq(self) -> int | None:
        """The `seq` of the oldest message that is kept; what came before is forgotten."""
        [row] = await self._source.ask(queries.OLDEST_SEQ, {})
        seq: int | None = row["seq"]
        return seq

    async def dead_letters(self, after: int | None, limit: int) -> Sequence[DeadLetter]:
        """The first `limit` dead letters after the one with that id, newest first."""
        values = {"limit": limit} if after is None else {"limit": limit, "after": after}
        query = queries.LETTERS if after is None else queries.LETTERS_AFTER
        return [to_letter(row) for row in await self._source.ask(query, values)]

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        """The dead letter with that id, None where there is none, or no more."""
        rows = await self._source.ask(queries.LETTER, {"letter": letter_id})
        return to_letter(rows[0]) if rows else None

    async def count_dead_letters(self, since_ms: int, most: int) -> int:
        """How many of the newest `most` dead letters came then or later."""
        [row] = await self._source.ask(queries.COUNT_LETTERS, {"since_ms": since_ms, "limit": most})
        count: int = row["count"]
        return count

    async def dead_letters_by_minute(self, since_ms: int) -> Mapping[int, int]:
        """How many dead letters came in each minute since 1970, then or later."""
        rows = await self._source.ask(queries.LETTERS_BY_MINUTE, {"since_ms": since_ms})
        return {row["minute"]: row["count"] for row in rows}

    async def http_keys(self) -> Sequence[HttpKey]:
        """Every key, revoked ones too, oldest first; of a replica only while the catalog is away."""
        return [to_key(row) for row in await self._source.ask_newest(ALL_KEYS, {})]

    def _upload(self, row: Mapping[str, Any]) -> Upload:
        try:
            made = orjson.loads(row["variants"]) if row["variants"] else []
            found = sorted((StoredVariant(*one) for one in made), key=lambda each: each.width)
            return to_upload(row, found)
        except CatalogDamaged as error:
            self._source.met(error)
            raise

    def _message(self, row: Mapping[str, Any]) -> Message | None:
        """The message, None where it cannot be read: it keeps no other from being told."""
        try:
            message = to_message(row["seq"], row["body"], row["traceparent"])
        except CatalogDamaged as error:
            self._source.met(error)
            return None
        return replace(message, owner=row["owner"])


def _head(row: Mapping[str, Any]) -> MessageHead:
    made_ms, queued_ms = row["made_ms"], row["queued_ms"]
    waited_ms = None if queued_ms is None else max(0, made_ms - queued_ms)
    refused = row["kind"] == "f" and row["recipe"] == '"'  # what was refused has no recipe
    return MessageHead(row["seq"], _KINDS.get(row["kind"], State.DELETED), refused, made_ms, waited_ms)


def _some_at_once(ids: Sequence[UUID]) -> Iterator[Mapping[str, str]]:
    for start in range(0, len(ids), queries.AT_ONCE):
        some = {name: str(one) for name, one in zip(queries.NAMES_AT_ONCE, ids[start:], strict=False)}
        yield dict.fromkeys(queries.NAMES_AT_ONCE, "") | some


def _asked(where: UploadFilter, after: Cursor | None) -> tuple[PageShape, dict[str, Any]]:
    """What is asked about the uploads after a place that are so, and with which values."""
    values = {name: value for name, value in asdict(where).items() if value is not None}
    hides_deleted = values.pop("hides_deleted") and where.state is None
    del values["is_put_off"]
    until_ms = values.pop("until_ms", None)
    places = [] if after is None else [(after.changed_ms, str(after.id))]
    if until_ms is not None:
        places.append((until_ms, ""))  # the place before all that changed then
    shape = PageShape(
        frozenset(values),
        hides_deleted=hides_deleted,
        goes_on=bool(places),
        of_many=where.state in _OFTEN,
        of_default=where.recipe == _USUAL,
        of_failed=where.state is State.FAILED,
        is_put_off=where.is_put_off,
    )
    if places:
        values["after_ms"], values["after_id"] = min(places)
    if where.source_prefix and (behind := _behind(where.source_prefix)):
        values["behind_prefix"] = behind
    return shape, values


def _behind(prefix: str) -> str | None:
    """The first text behind all that begin with a prefix, None where nothing in Unicode is."""
    kept = prefix.rstrip(_LAST_CHARACTER)
    if not kept:
        return None
    after = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if 0xD800 <= after < 0xE000 else after)  # halves are no characters


@asynccontextmanager
async def open_reader(
    address: Address | str,
    *,
    read_address: Address | str | None = None,
    on_replica: OnReplica = lambda _name, _error: None,
) -> AsyncIterator[Reader]:
    """A reader of the catalog there; where a replica of it is named, that is read while it answers.

    Raises: NoCatalog, CatalogUnavailable, CatalogTooNew, CatalogTooOld, CatalogObsolete, CatalogMoved.
    """
    where, replica = Address.of(address), None if read_address is None else Address.of(read_address)
    try:
        await _check(where)
    except CatalogAway:
        if replica is None:
            raise
        await _check(replica)  # what can be read is read
    async with _open_source(where, replica, on_replica) as source:
        yield Reader(source)


async def _check(where: Address) -> None:
    """Raises what `open_reader` does where no catalog of this program's is to be read."""
    async with open_to_read(where) as database:
        found = await schema_of(database)
        if found != schema.newest():
            schema.check_known(found, migrate=False, done_by=database.backend.migrated_by)


@asynccontextmanager
async def _open_source(
    where: Address, replica: Address | None, on_replica: OnReplica
) -> AsyncIterator[ReadSource]:
    if where.is_file:
        from storage.catalog.sqlite_reading import FileSource

        async with FileSource.open(where) as file:
            yield file
    else:
        from storage.catalog.postgres_reading import open_server  # with its driver: 270 ms and 49 MB

        async with open_server(where, replica, on_replica) as server:
            yield server
