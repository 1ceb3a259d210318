"""Parking: uploads wait in the catalog without a job, until it is the turn of their owner.

Here and wherever turns are taken an owner is told by its account: that of an app with a stream has another
than owners of that name elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Select, String, bindparam, column, func, select, true, update

from storage.catalog.clock import SKEW_MS
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.locks import lock_uploads
from storage.catalog.paging import PAGE
from storage.catalog.sqlalchemy_parts import ARRAY, AsyncConnection
from storage.catalog.statements import PreparedStatement
from storage.catalog.tables import IS_PARKED, account, uploads

OWNERS = 100  # that are told at once
MOST_COUNTED = 100_000  # of any number: a count must not take long

T = TypeVar("T")

_IN_ORDER = uploads.c.queued_ms, uploads.c.number  # within an owner and of all, each by an index


def _owners(*first: Any) -> Select[Any]:  # noqa: ANN401 (conditions)
    """Each owner by one step in the index, however many uploads it has there, with the time of its oldest."""
    one = select(func.min(account)).where(IS_PARKED, *first).scalar_subquery()
    found = select(one.label("owner")).cte("found", recursive=True)
    following = select(func.min(account)).where(IS_PARKED, account > found.c.owner).correlate(found)
    found = found.union_all(select(following.scalar_subquery()).where(found.c.owner.is_not(None)))
    some = select(found.c.owner).where(found.c.owner.is_not(None)).limit(OWNERS).subquery()
    oldest = (
        select(uploads.c.queued_ms).where(IS_PARKED, account == some.c.owner).order_by(*_IN_ORDER).limit(1)
    )
    return select(some.c.owner, oldest.correlate(some).scalar_subquery().label("since_ms"))


_FIRST_OWNERS = _owners()
_NEXT_OWNERS = _owners(account > bindparam("after"))
_LONGEST = (
    select(account.label("owner"), uploads.c.queued_ms).where(IS_PARKED).order_by(*_IN_ORDER).limit(OWNERS)
)
_OLDEST_SINCE = select(uploads.c.queued_ms).where(IS_PARKED).order_by(*_IN_ORDER).limit(1)
_ONE_BEHIND = _OLDEST_SINCE.offset(bindparam("number"))
# In the order of an index, or Postgres would look through the whole of one before it counts.
_COUNT = select(func.count()).select_from(
    select(uploads.c.queued_ms).where(IS_PARKED).order_by(*_IN_ORDER).limit(MOST_COUNTED).subquery()
)


def _oldest_of(whose: Any, most: Any) -> Select[Any]:  # noqa: ANN401 (expressions)
    first = select(uploads.c.id).where(IS_PARKED, account == whose).order_by(*_IN_ORDER).limit(most)
    return first.with_for_update(key_share=True, skip_locked=True)  # another dispatcher is taking those


_OLDEST = PreparedStatement(_oldest_of(bindparam("whose"), bindparam("most")))
_WANTED = (
    func.unnest(bindparam("owners", type_=ARRAY(String)), bindparam("numbers", type_=ARRAY(BigInteger)))
    .table_valued(column("owner", String), column("most", BigInteger))
    .render_derived(name="wanted")
)
_ITS_OLDEST = _oldest_of(_WANTED.c.owner, _WANTED.c.most).correlate(_WANTED).lateral()
_OLDEST_OF_ALL = select(_ITS_OLDEST.c.id, _WANTED.c.owner).select_from(_WANTED.join(_ITS_OLDEST, true()))
_TAKE = PreparedStatement(
    update(uploads)
    .where(uploads.c.id.in_(bindparam("ids", expanding=True)), IS_PARKED)
    .values(job_id=bindparam("job"), changed_ms=bindparam("now"))
    .returning(uploads.c.id)
)

_IS_AHEAD = IS_PARKED, uploads.c.queued_ms > bindparam("latest")
_AHEAD = select(uploads.c.id).where(*_IS_AHEAD).order_by(*_IN_ORDER).limit(PAGE)
_PUT_BACK = (
    update(uploads)
    .where(uploads.c.id.in_(bindparam("ids", expanding=True)), *_IS_AHEAD)
    .values(queued_ms=bindparam("now"))
)
_COUNT_OF = select(func.count()).select_from(uploads).where(IS_PARKED, account == bindparam("whose"))


def spread(ids: Sequence[T], uploads_per_job: int) -> dict[str, Sequence[T]]:
    """Spread `ids` over new jobs, at most so many on each."""
    starts = range(0, len(ids), uploads_per_job)
    return {uuid4().hex: ids[start : start + uploads_per_job] for start in starts}


@dataclass(frozen=True)
class Parked:
    """How many uploads are parked, at most `MOST_COUNTED`, and for how long the oldest has waited."""

    count: int
    oldest_ms: int


class Parking:
    """The parked uploads of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owners(self, after: str | None = None) -> Sequence[str]:
        """The first `OWNERS` owners that have some, or the first after that one."""
        return list(await self.waits(after))

    async def waits(self, after: str | None = None) -> Mapping[str, int]:
        """For how many ms the oldest upload of each of these `owners` has waited."""
        query, values = (_FIRST_OWNERS, {}) if after is None else (_NEXT_OWNERS, {"after": after})
        return await self._waits(query, values)

    async def longest(self) -> Mapping[str, int]:
        """The owners of the `OWNERS` uploads that have waited longest, in that order, and for how many ms."""
        return await self._waits(_LONGEST, {})

    async def _waits(self, query: Select[Any], values: Mapping[str, str]) -> Mapping[str, int]:
        async with self._database.reading() as connection:
            await self._database.backend.read_in_order(connection)
            rows = (await connection.execute(query, values)).all()
        now, waits = self._database.now_ms(), dict[str, int]()
        for name, since_ms in rows:
            waits.setdefault(name, max(0, now - since_ms))
        return waits

    async def exceeds(self, number: int) -> bool:
        """Whether more than so many are parked."""
        async with self._database.reading() as connection:
            await self._database.backend.read_in_order(connection)
            return (await connection.execute(_ONE_BEHIND, {"number": number})).first() is not None

    async def count(self, whose: str) -> int:
        """How many uploads of that owner are parked, however many they are."""
        async with self._database.reading() as connection:
            return int((await connection.execute(_COUNT_OF, {"whose": whose})).scalar_one())

    async def oldest_ms(self) -> int:
        """For how many ms the oldest has waited; 0 where none is parked."""
        async with self._database.reading() as connection:
            await self._database.backend.read_in_order(connection)
            since = (await connection.execute(_OLDEST_SINCE)).scalar()
        return 0 if since is None else max(0, self._database.now_ms() - since)

    async def all(self) -> Parked:
        """What is parked."""
        async with self._database.reading() as connection:
            await self._database.backend.read_in_order(connection)
            since = (await connection.execute(_OLDEST_SINCE)).scalar()
            count = 0 if since is None else (await connection.execute(_COUNT)).scalar_one()
        return Parked(count, 0 if since is None else max(0, self._database.now_ms() - since))

    @repeated
    async def take(self, wanted: Mapping[str, int], uploads_per_job: int) -> Mapping[str, Mapping[UUID, str]]:
        """Put up to so many uploads of each owner on new jobs, those that have waited longest.

        Returns whose each upload is, by job. A power cut may undo it: they are parked then.
        """
        now = self._database.now_ms()
        jobs: dict[str, Mapping[UUID, str]] = {}
        async with self._database.writing(inline=True, relaxed_durability=True) as connection:
            await self._database.backend.read_in_order(connection)
            whose = await self._find(connection, wanted)
            for job_id, ids in spread(list(whose), uploads_per_job).items():
                values = {"ids": list(ids), "job": job_id, "now": now}
                if taken := [row["id"] for row in await _TAKE.rows(connection, values)]:
                    jobs[job_id] = {UUID(each): whose[each] for each in taken}
        return jobs

    @repeated
    async def put_back(self) -> int:
        """Have some of what a clock that was ahead has queued wait since now; returns how many.

        It would wait behind all that its owner has sent since.
        """
        now = self._database.now_ms()
        async with self._database.writing() as connection:
            await self._database.backend.read_in_order(connection)
            found = (await connection.execute(_AHEAD, {"latest": now + SKEW_MS})).scalars().all()
            if not found:
                return 0
            await lock_uploads(connection, [UUID(each) for each in found])
            values = {"ids": list(found), "latest": now + SKEW_MS, "now": now}
            return (await connection.execute(_PUT_BACK, values)).rowcount

    async def _find(self, connection: AsyncConnection, wanted: Mapping[str, int]) -> Mapping[str, str]:
        """Whose each of the uploads is that are to be taken."""
        if self._database.backend.joins_laterally:  # a round trip each would take longer than all of it
            values = {"owners": list(wanted), "numbers": list(wanted.values())}
            return {row.id: row.owner for row in await connection.execute(_OLDEST_OF_ALL, values)}
        whose: dict[str, str] = {}
        for name, most in wanted.items():
            found = await _OLDEST.rows(connection, {"whose": name, "most": most})
            whose |= {row["id"]: name for row in found}
        return whose
