"""Parking: uploads wait in the catalog without a job, until it is the turn of their owner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, func, select, update

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.requeuer import spread
from storage.catalog.tables import IS_PARKED, owner, uploads

OWNERS = 100  # that are told at once
MOST_COUNTED = 100_000  # of any number: a count must not take long


def _owners(*first: Any) -> Select[Any]:  # noqa: ANN401 (conditions)
    """Each owner by one step in the index, however many uploads it has there."""
    one = select(func.min(owner)).where(IS_PARKED, *first).scalar_subquery()
    found = select(one.label("owner")).cte("found", recursive=True)
    following = select(func.min(owner)).where(IS_PARKED, owner > found.c.owner).correlate(found)
    found = found.union_all(select(following.scalar_subquery()).where(found.c.owner.is_not(None)))
    return select(found.c.owner).where(found.c.owner.is_not(None)).limit(OWNERS)


_FIRST_OWNERS = _owners()
_NEXT_OWNERS = _owners(owner > bindparam("after"))
_SOME = _FIRST_OWNERS.subquery()
_ITS_OLDEST = (
    select(uploads.c.queued_ms).where(IS_PARKED, owner == _SOME.c.owner).order_by(uploads.c.number).limit(1)
)
_OLDEST_SINCE = select(func.min(_ITS_OLDEST.correlate(_SOME).scalar_subquery())).select_from(_SOME)
_OLDEST = (
    select(uploads.c.id)
    .where(IS_PARKED, owner == bindparam("whose"))
    .order_by(uploads.c.number)
    .limit(bindparam("most"))
    .with_for_update(key_share=True, skip_locked=True)  # another dispatcher is taking those
)
_TAKE = (
    update(uploads)
    .where(uploads.c.id.in_(bindparam("ids", expanding=True)), IS_PARKED)
    .values(job_id=bindparam("job"), changed_ms=bindparam("now"))
    .returning(uploads.c.id)
)


_COUNT_OF = select(func.count()).select_from(uploads).where(IS_PARKED, owner == bindparam("whose"))
_COUNT = select(func.count()).select_from(
    select(uploads.c.id).where(IS_PARKED).limit(MOST_COUNTED).subquery()
)


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
        query, values = (_FIRST_OWNERS, {}) if after is None else (_NEXT_OWNERS, {"after": after})
        async with self._database.reading() as connection:
            return list((await connection.execute(query, values)).scalars())

    async def count(self, whose: str) -> int:
        """How many uploads of that owner are parked, however many they are."""
        async with self._database.reading() as connection:
            return int((await connection.execute(_COUNT_OF, {"whose": whose})).scalar_one())

    async def all(self) -> Parked:
        """What is parked; of more than `OWNERS` owners the oldest may be another's."""
        async with self._database.reading() as connection:
            count = (await connection.execute(_COUNT)).scalar_one()
            since = (await connection.execute(_OLDEST_SINCE)).scalar() if count else None
        return Parked(count, max(0, self._database.now_ms() - since) if since else 0)

    @repeated
    async def take(self, wanted: Mapping[str, int], uploads_per_job: int) -> Mapping[str, Mapping[UUID, str]]:
        """Put up to so many uploads of each owner on new jobs, its oldest ones.

        Returns whose each upload is, by job. A power cut may undo it: they are parked then.
        """
        now = self._database.now_ms()
        jobs: dict[str, Mapping[UUID, str]] = {}
        async with self._database.writing(inline=True, relaxed_durability=True) as connection:
            whose: dict[str, str] = {}
            for name, most in wanted.items():
                found = await connection.execute(_OLDEST, {"whose": name, "most": most})
                whose |= dict.fromkeys(found.scalars(), name)
            for job_id, ids in spread(list(whose), uploads_per_job).items():
                values = {"ids": list(ids), "job": job_id, "now": now}
                if taken := (await connection.execute(_TAKE, values)).scalars().all():
                    jobs[job_id] = {UUID(each): whose[each] for each in taken}
        return jobs
