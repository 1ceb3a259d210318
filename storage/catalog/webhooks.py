"""Webhooks in the catalog: how far each endpoint has come in the outbox, and what it has not taken yet."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, bindparam, delete, func, null, or_, select, union_all, update

from storage.catalog.clock import SKEW_MS
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.kv import Value, read_value, replace_value, write_value
from storage.catalog.leases import drop_lease, take_lease
from storage.catalog.pruning import prune
from storage.catalog.rows import load_json, without_nul
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.tables import kv, outbox, webhook_deliveries
from storage.catalog.webhook_routes import EVERYTHING, WebhookRoute
from storage.errors import CatalogDamaged

DEFAULT = "default"  # the endpoint of all messages that no other one is sent
TAKEN = 500  # messages at once; no more wait while nothing gets through
MOST_WAITING = 10_000  # while something does
MOST_GIVEN_UP = 10_000
MOST_OF_OTHERS = 10 * TAKEN  # that are looked through for the first message of an endpoint
MOST_BEHIND = 100_000  # messages that are counted
LONGEST_MS = 3_600_000  # from one attempt to the next
_FEW = 3  # attempts, before which none is given up while others are taken
_OFTEN = 5  # attempts, after which a message may be given up to make room

_all = webhook_deliveries.c
_IS_MINE = _all.endpoint == bindparam("mine")
_WAITS = _IS_MINE, _all.given_up_ms.is_(None)
_GIVEN_UP = _IS_MINE, _all.given_up_ms.is_not(None)
# One from ahead was set before the clock was put back.
_IS_DUE = or_(_all.next_ms <= bindparam("now"), _all.next_ms > bindparam("latest"))
_waiting = webhook_deliveries.alias("waiting").c
_all_waiting = _waiting.endpoint == bindparam("mine"), _waiting.given_up_ms.is_(None)
_of_uploads = union_all(
    select(_waiting.upload_id, _waiting.seq, _waiting.seq.label("own")).where(*_all_waiting),
    select(_waiting.behind_id, _waiting.seq, null()).where(*_all_waiting, _waiting.behind_id.is_not(None)),
).subquery()
_first_of_upload = (
    select(
        _of_uploads.c.seq,
        func.min(_of_uploads.c.own).over(partition_by=_of_uploads.c.upload_id).label("first"),
    )
    .where(_of_uploads.c.upload_id.is_not(None))
    .subquery()
)
# Read once, not for each that waits: a planner that has not counted yet how many do would choose that.
_IS_FIRST = _all.seq.not_in(
    select(_first_of_upload.c.seq).where(_first_of_upload.c.first < _first_of_upload.c.seq)
)
_DUE = (
    select(webhook_deliveries)
    .where(*_WAITS, _IS_DUE, _IS_FIRST)
    .order_by(_all.next_ms, _all.seq)
    .limit(bindparam("most"))
)
_WAITING = select(webhook_deliveries).where(*_WAITS).order_by(_all.seq).limit(bindparam("most"))
_TO_PROBE = (
    select(webhook_deliveries)
    .where(*_WAITS, _IS_FIRST)
    .order_by(func.coalesce(_all.tried_ms, 0), _all.seq)
    .limit(bindparam("most"))
)
_LATEST_GIVEN_UP = (
    select(webhook_deliveries).where(*_GIVEN_UP).order_by(_all.seq.desc()).limit(bindparam("most"))
)
_NEXT = (
    select(outbox.c.seq, outbox.c.body, outbox.c.made_ms)
    .where(outbox.c.seq > bindparam("since"))
    .order_by(outbox.c.seq)
    .limit(bindparam("most"))
)
_PLACES = select(kv.c.name, kv.c.value).where(kv.c.name.startswith("webhook:", autoescape=True))
_NEW = insert(webhook_deliveries)
_ADD = _NEW.on_conflict_do_update(  # what waits already goes on waiting; what was given up begins anew
    index_elements=["endpoint", "seq"],
    set_={
        name: _NEW.excluded[name]
        for name in ("since_ms", "attempts", "next_ms", "tried_ms", "problem", "given_up_ms")
    },
    where=_all.given_up_ms.is_not(None),
)
_FAILED = (
    update(webhook_deliveries)
    .where(*_WAITS, _all.seq == bindparam("of_seq"), _all.attempts == bindparam("before"))
    .values(
        attempts=_all.attempts + 1,
        next_ms=bindparam("then"),
        tried_ms=bindparam("now"),
        problem=bindparam("why"),
    )
)

Word = Literal["ok", "down", "gone"]
"""An endpoint takes messages, takes none at the moment, or has said (410) that it wants no more."""


@dataclass(frozen=True)
class Delivery:
    """A message that an endpoint has not taken yet; times are ms since 1970."""

    seq: int
    upload_id: UUID | None  # None: the message is about none
    made_ms: int
    since_ms: int  # since when it waits here: taken from the outbox, for the first time or again
    attempts: int
    next_ms: int
    tried_ms: int | None  # when the last attempt ended; None: there was none
    problem: str | None
    given_up_ms: int | None


@dataclass(frozen=True)
class Attempted:
    """What has become of an attempt: delivered, or forgotten, where there is no `problem`."""

    delivery: Delivery
    problem: str | None = None
    next_ms: int = 0


@dataclass(frozen=True)
class EndpointState:
    """How an endpoint does, since when, why, and when it took a message last (0: never)."""

    word: Word
    since_ms: int
    problem: str | None = None
    delivered_ms: int = 0


@dataclass(frozen=True)
class Backlog:
    """How many messages wait or were given up, how many follow (at most `MOST_BEHIND`), and the oldest.

    `oldest_ms` is when the oldest that is not delivered was made; None: there is none.
    """

    waiting: int
    given_up: int
    behind: int
    oldest_ms: int | None


class Webhooks:
    """The webhooks of one catalog to one endpoint. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database, endpoint: str = DEFAULT, route: WebhookRoute = EVERYTHING) -> None:
        self._database = database
        self.endpoint = endpoint
        """Its name."""
        self._route = route
        self._mine = {"mine": endpoint}
        # The names of rows of `kv`; the lease of the first endpoint is that which older workers take.
        self._place = _place_of(endpoint)
        self._state, self._used = f"{self._place}:state", f"{self._place}:used"
        self._lease = "lease:webhooks" if endpoint == DEFAULT else f"lease:webhooks:{endpoint}"
        self._passed: tuple[Value, int] | None = None  # at that place, messages of others up to that `seq`

    def to(self, endpoint: str, route: WebhookRoute = EVERYTHING) -> "Webhooks":
        """Those to another endpoint, which is sent the messages of that route."""
        return Webhooks(self._database, endpoint, route)

    def now_ms(self) -> int:
        """This moment in ms since 1970, by the clock that all hosts of the catalog compare times by."""
        return self._database.now_ms()

    @repeated
    async def begin(self, *, instead_of_default: bool = False) -> None:
        """Deliver what is written to the outbox from now on, unless that has begun before.

        `instead_of_default`: from where the default endpoint has come to, which is sent these no more.
        """
        async with self._database.reading() as connection:
            if await read_value(connection, self._place) is not None:
                return
        async with self._database.writing() as connection:
            default = await read_value(connection, _place_of(DEFAULT)) if instead_of_default else None
            given = default["seq"] if default else await self._database.backend.given_seq(connection)
            await replace_value(connection, self._place, None, _place(given, given))

    @repeated
    async def note_use(self) -> None:
        """Remember that there is this endpoint, or `forget_unused` forgets it."""
        async with self._database.writing(relaxed_durability=True) as connection:
            await write_value(connection, self._used, {"ms": self._database.now_ms()})

    async def endpoints(self) -> Sequence[str]:
        """The names of all endpoints that there ever were and that are not forgotten, in their order."""
        async with self._database.reading() as connection:
            names = (await connection.execute(_PLACES)).scalars().all()
        found = [name.removeprefix(_place_of("")) for name in names]
        return sorted((name for name in found if ":" not in name), key=lambda name: (name != DEFAULT, name))

    async def used_ms(self) -> int | None:
        """When a worker had this endpoint last; None: nobody has noted that."""
        async with self._database.reading() as connection:
            value = await read_value(connection, self._used)
        return None if value is None else int(value["ms"])

    async def forget_unused(self, before_ms: int) -> Sequence[str]:
        """Forget the endpoints that no worker has had since before that, with all that waits for them.

        Returns their names.
        """
        gone = []
        for one in [self.to(name) for name in await self.endpoints()]:
            used_ms = await one.used_ms()
            if used_ms is None or used_ms > self.now_ms() + SKEW_MS:  # by an older worker, or a wrong clock
                await one.note_use()
            elif used_ms < before_ms:
                await one._forget()
                gone.append(one.endpoint)
        return gone

    async def _forget(self) -> None:
        while await self._forget_page(_IS_MINE) == TAKEN:
            pass
        names = self._place, self._state, self._used
        async with self._database.writing() as connection:
            await connection.execute(delete(kv).where(kv.c.name.in_(names)))

    @repeated
    async def lease(self, holder: str, seconds: float) -> bool:
        """Take or renew the right to deliver; False while another holder has it."""
        now, for_ms = self._database.now_ms(), int(seconds * 1000)
        async with self._database.writing(inline=True, relaxed_durability=True) as connection:
            return await take_lease(connection, self._lease, holder, now, for_ms)

    @repeated
    async def end_lease(self, holder: str) -> None:
        """Give that right back, if it still is this holder's."""
        async with self._database.writing(relaxed_durability=True) as connection:
            await drop_lease(connection, self._lease, holder)

    @repeated
    async def take(self, most_waiting: int) -> int:
        """Have the next messages of the outbox wait, if fewer than so many do.

        Returns how many of the outbox it has passed, those of other endpoints too. A power cut may undo it:
        then they are taken again.
        """
        async with self._database.reading() as connection:
            place = await read_value(connection, self._place)
            if place is None:
                return 0
            since = self._passed[1] if self._passed and self._passed[0] == place else place["seq"]
            if not (await connection.execute(_NEXT, {"since": since, "most": 1})).all():
                return 0
            room = min(TAKEN, most_waiting - await self._count(connection, *_WAITS))
            if room <= 0:
                return 0
            most = room if self._route.has_all else TAKEN
            rows = (await connection.execute(_NEXT, {"since": since, "most": most})).all()
        passed, taken = self._sort(rows, room)
        last = rows[passed - 1].seq
        if not taken and last - place["seq"] < TAKEN:
            self._passed = place, last  # to write that down for each message of others would cost much
            return passed
        async with self._database.writing(relaxed_durability=True) as connection:
            after = _place(last, max(last, place["top"]))
            if not await replace_value(connection, self._place, place, after):
                return 0  # somebody has them sent again
            if taken:
                await connection.execute(_ADD, taken)
        return passed

    def _sort(self, rows: Sequence[Any], room: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """How many of those messages are passed, and the rows of those that are this endpoint's."""
        now = self._database.now_ms()
        taken: list[Mapping[str, Any]] = []
        for number, row in enumerate(rows):
            content = _content_of(row.body)
            if not self._route.has(content):
                continue
            if len(taken) == room:
                return number, taken
            taken.append(_new_row(self.endpoint, row, content, now))
        return len(rows), taken

    async def due(self, most: int) -> Sequence[Delivery]:
        """What may be tried now, those first that are due longest; of each upload its first message alone."""
        now = self._database.now_ms()
        return await self._read(_DUE, most, now=now, latest=now + 2 * LONGEST_MS + SKEW_MS)

    async def to_probe(self, most: int) -> Sequence[Delivery]:
        """What may be tried, due or not, those first that were tried longest ago, or never; of each upload
        its first message alone.
        """
        return await self._read(_TO_PROBE, most)

    async def waiting(self, most: int) -> Sequence[Delivery]:
        """The oldest messages that wait."""
        return await self._read(_WAITING, most)

    async def given_up(self, most: int) -> Sequence[Delivery]:
        """The newest messages that were given up."""
        return await self._read(_LATEST_GIVEN_UP, most)

    async def _read(self, query: Select[Any], most: int, **values: int) -> Sequence[Delivery]:
        async with self._database.reading() as connection:
            found = (await connection.execute(query, {"most": most, **self._mine, **values})).mappings()
            return [_to_delivery(row) for row in found]

    @repeated
    async def record(self, attempts: Sequence[Attempted]) -> None:
        """Write what has become of `attempts`. A power cut may undo it: then messages are sent again."""
        done = [each.delivery.seq for each in attempts if each.problem is None]
        now = self._database.now_ms()
        failed = [
            {
                **self._mine,
                "of_seq": each.delivery.seq,
                "before": each.delivery.attempts,
                "then": each.next_ms,
                "now": now,
                "why": without_nul(each.problem),
            }
            for each in attempts
            if each.problem is not None
        ]
        async with self._database.writing(inline=True, relaxed_durability=True) as connection:
            if done:
                gone = delete(webhook_deliveries).where(_IS_MINE, _all.seq.in_(done))
                await connection.execute(gone, self._mine)
            if failed:
                await connection.execute(_FAILED, failed)

    async def make_due(self) -> None:
        """Have everything that waits tried again now."""
        now = self._database.now_ms()
        await self._change_by_page([*_WAITS, _all.next_ms > now], next_ms=now)

    async def give_up(self, before_ms: int, *, untried: bool) -> int:
        """Give up what has waited since before that and was tried a few times; `untried`: however often it
        was tried. Returns how many.

        It is kept, and sent again by `replay`.
        """
        old = [*_WAITS, _all.since_ms < before_ms]
        if not untried:
            old.append(_all.attempts >= _FEW)
        return await self._give_up(*old)

    async def _give_up(self, *where: Any) -> int:  # noqa: ANN401 (conditions)
        async with self._database.reading() as connection:
            if not await self._count(connection, *where):
                return 0
        return await self._change_by_page(where, given_up_ms=self._database.now_ms())

    async def _change_by_page(self, where: Sequence[Any], **values: int) -> int:
        """Set that of all rows for which it does not hold yet; nobody waits for more than a page."""
        changed = 0
        while page := await self._change_page(where, values):
            changed += page
            if page < TAKEN:
                break
        return changed

    @repeated
    async def _change_page(self, where: Sequence[Any], values: Mapping[str, int]) -> int:
        some = select(_all.seq).where(*where).order_by(_all.seq).limit(TAKEN)
        changing = update(webhook_deliveries).where(*where, _all.seq.in_(some)).values(**values)
        async with self._database.writing(relaxed_durability=True) as connection:
            return (await connection.execute(changing, self._mine)).rowcount

    async def lose(self, before_ms: int) -> int:
        """Give up what was made before that, which the outbox soon has no more; returns how many."""
        lost = await self._give_up(*_WAITS, _all.made_ms < before_ms)
        while (passed := await self._pass_by(before_ms)) is not None:
            lost += passed
        return lost

    @repeated
    async def _pass_by(self, before_ms: int) -> int | None:
        """Leave out the next messages of the outbox that were made before that; returns how many were this
        endpoint's, None where there were none at all.
        """
        async with self._database.reading() as connection:
            if (place := await read_value(connection, self._place)) is None:
                return None
            rows = (await connection.execute(self._next_made(place["seq"]).limit(TAKEN))).all()
        old = list(takewhile(lambda row: row.made_ms < before_ms, rows))
        if not old:
            return None
        last = old[-1].seq
        async with self._database.writing() as connection:
            after = _place(last, max(last, place["top"]))
            if not await replace_value(connection, self._place, place, after):
                return None
        return sum(bool(row.is_mine) for row in old)

    def _next_made(self, since: int) -> Select[Any]:
        """The messages of the outbox after that `seq`, each with whether it is this endpoint's."""
        query = select(outbox.c.seq, outbox.c.made_ms, self._route.condition.label("is_mine"))
        return query.where(outbox.c.seq > since).order_by(outbox.c.seq)

    @repeated
    async def make_room(self) -> int:
        """Give up some of what was tried often where `MOST_WAITING` wait; returns how many."""
        async with self._database.reading() as connection:
            if await self._count(connection, *_WAITS) < MOST_WAITING:
                return 0
        often = select(_all.seq).where(*_WAITS, _all.attempts >= _OFTEN).order_by(_all.seq).limit(TAKEN)
        async with self._database.writing() as connection:
            giving = update(webhook_deliveries).where(*_WAITS, _all.seq.in_(often))
            given_up = giving.values(given_up_ms=self._database.now_ms())
            return (await connection.execute(given_up, self._mine)).rowcount

    async def prune_surplus(self, most: int = MOST_GIVEN_UP) -> None:
        """Forget the oldest that were given up where they are more."""
        query = select(_all.seq).where(*_GIVEN_UP).order_by(_all.seq.desc()).offset(most).limit(1)
        async with self._database.reading() as connection:
            last = (await connection.execute(query, self._mine)).scalar()
        if last is not None:
            while await self._forget_page(*_GIVEN_UP, _all.seq <= last) == TAKEN:
                pass

    @repeated
    async def _forget_page(self, *where: Any) -> int:  # noqa: ANN401 (conditions)
        some = select(_all.seq).where(*where).order_by(_all.seq).limit(TAKEN)
        async with self._database.writing() as connection:
            gone = delete(webhook_deliveries).where(*where, _all.seq.in_(some))
            return (await connection.execute(gone, self._mine)).rowcount

    async def prune(self, before_ms: int) -> int:
        """Forget messages made before `before_ms`, which the outbox has no more, of all endpoints.

        Returns their number.
        """
        return await prune(self._database, _all.made_ms, before_ms)

    async def backlog(self) -> Backlog:
        """What is not delivered."""
        async with self._database.reading() as connection:
            waiting = await self._count(connection, *_WAITS)
            given_up = await self._count(connection, *_GIVEN_UP)
            query = select(func.min(_all.made_ms)).where(*_WAITS)
            oldest = (await connection.execute(query, self._mine)).scalar()
            place = await read_value(connection, self._place)
            if place is None:
                return Backlog(waiting, given_up, 0, oldest)
            newer = self._next_made(place["seq"]).limit(MOST_BEHIND).subquery().c
            behind = select(func.count(), func.min(newer.made_ms)).where(newer.is_mine)
            count, first_ms = (await connection.execute(behind)).one()
        made = [ms for ms in (oldest, first_ms) if ms is not None]
        return Backlog(waiting, given_up, count, min(made, default=None))

    async def oldest_ms(self) -> int:
        """For how many ms the oldest message has waited that is not delivered; 0: there is none.

        What is sent again waits since it was taken from the outbox once more.
        """
        now = self._database.now_ms()
        async with self._database.reading() as connection:
            query = select(func.min(_all.since_ms)).where(*_WAITS)
            since = (await connection.execute(query, self._mine)).scalar()
            if (place := await read_value(connection, self._place)) is not None:
                first = self._first_made(max(place["seq"], place["top"]))
                since = min(since or now, (await connection.execute(first)).scalar() or now)
        return 0 if since is None else max(0, now - since)

    def _first_made(self, since: int) -> Select[Any]:
        """When the first message of this endpoint was made among the next of the outbox.

        Those of others are few that it has not passed; where many wait, those that wait say more.
        """
        query = self._next_made(since)
        if self._route.has_all:
            return query.with_only_columns(outbox.c.made_ms).limit(1)
        newer = query.limit(MOST_OF_OTHERS).subquery().c
        return select(newer.made_ms).where(newer.is_mine).order_by(newer.seq).limit(1)

    async def replay(self, since: int) -> int:
        """Send the messages after that `seq` again; returns how many of them the outbox has taken back.

        Those that wait already go on waiting, and none that was not taken yet is counted.
        """
        reached = await self._go_back(since)
        again = select(func.count()).select_from(outbox)
        again = again.where(outbox.c.seq > since, outbox.c.seq <= reached, self._route.condition)
        async with self._database.reading() as connection:  # it may take a while, and hold nobody up
            return (await connection.execute(again)).scalar_one()

    @repeated
    async def _go_back(self, since: int) -> int:
        """Begin again after that `seq`; returns how far the endpoint had come."""
        async with self._database.writing() as connection:
            place = await read_value(connection, self._place, alone=True)
            if place is None or place["seq"] <= since:
                return since
            await write_value(connection, self._place, _place(since, place["top"]))
        return int(place["seq"])

    async def seq_before(self, made_ms: int) -> int:
        """The `seq` behind which the messages begin that were made then or later."""
        first = select(func.min(outbox.c.seq)).where(outbox.c.made_ms >= made_ms)
        async with self._database.reading() as connection:
            found = (await connection.execute(first)).scalar()
            if found is not None:
                return int(found) - 1
            return await self._database.backend.given_seq(connection)

    async def state(self) -> EndpointState | None:
        """How the endpoint does; None: nobody has tried it."""
        async with self._database.reading() as connection:
            value = await read_value(connection, self._state)
        return None if value is None else EndpointState(**value)

    @repeated
    async def note_state(self, state: EndpointState) -> None:
        """Remember how the endpoint does."""
        async with self._database.writing(relaxed_durability=True) as connection:
            await write_value(connection, self._state, asdict(state))

    async def _count(self, connection: AsyncConnection, *where: Any) -> int:  # noqa: ANN401 (conditions)
        query = select(func.count()).select_from(webhook_deliveries).where(*where)
        return (await connection.execute(query, self._mine)).scalar_one()


def _place_of(endpoint: str) -> str:
    """The row of `kv` that says how far an endpoint has come; those with more behind it say more of it."""
    return f"webhook:{endpoint}"


def _place(seq: int, top: int) -> Value:
    """How far an endpoint has come, and how far it ever has: what lies between is sent again."""
    return {"seq": seq, "top": top}


def _new_row(
    endpoint: str,
    row: Any,  # noqa: ANN401 (a row)
    content: Mapping[str, Any],
    now: int,
) -> Mapping[str, Any]:
    return {
        "endpoint": endpoint,
        "seq": row.seq,
        "upload_id": _id_or_none(content.get("id")),
        # Nobody is left without a picture in between.
        "behind_id": _id_or_none(content.get("replaced_by")),
        "made_ms": row.made_ms,
        "since_ms": now,
        "attempts": 0,
        "next_ms": now,
        "tried_ms": None,
        "problem": None,
        "given_up_ms": None,
    }


def _content_of(body: str) -> Mapping[str, Any]:
    """The content of a message; nothing of one that is damaged, which the outbox tells of."""
    try:
        content = load_json(body)
    except CatalogDamaged:
        return {}
    return content if isinstance(content, dict) else {}


def _id_or_none(value: object) -> str | None:
    """An id as a message has it, if it is one."""
    found = _to_id(value) if isinstance(value, str) else None
    return None if found is None else str(found)


def _to_id(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None


def _to_delivery(row: Mapping[str, Any]) -> Delivery:
    values = {name: row[name] for name in Delivery.__dataclass_fields__}
    return Delivery(**{**values, "upload_id": _to_id(row["upload_id"])})
