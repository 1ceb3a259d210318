"""Starts: what apps are told where work on an upload begins; nothing is written."""

from collections.abc import Sequence

from sqlalchemy import String, bindparam, func, select

from storage.catalog.database import Database
from storage.catalog.outbox import newest_seqs
from storage.catalog.outcomes import which_hold
from storage.catalog.records import BegunUpload, Claim, State
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import IS_ON_A_JOB, IS_PARKED, account, uploads

MOST_WAITING = 10_000
"""More parked uploads of an owner are not counted."""
_IS_THEIRS = account == bindparam("whose", type_=String)
_PARKED = select(func.count()).select_from(
    select(uploads.c.queued_ms).where(IS_PARKED, _IS_THEIRS).limit(MOST_WAITING).subquery()
)
# Not by the index of states, in which parked ones are too.
_ON_JOBS = select(func.count()).where(
    IS_ON_A_JOB, uploads.c.state.not_in((State.PROCESSING, State.DELETING)), _IS_THEIRS
)


class Starts:
    """What is asked of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, claims: Sequence[Claim]) -> Sequence[BegunUpload]:
        """The uploads of those `claims` whose outcome is not written yet."""
        now = self._database.now_ms()
        async with self._database.reading() as connection:
            seqs = await newest_seqs(connection, [claim.upload.id for claim in claims])
            waiting = {
                whose: await _count_waiting(connection, whose)
                for whose in {claim.account for claim in claims}
            }
            # Last: what was read before is then older than any message of an outcome.
            held = await which_hold(connection, claims)
        return [
            BegunUpload(claim, seqs.get(claim.upload.id, 0), waiting[claim.account], now)
            for claim, holds in zip(claims, held, strict=True)
            if holds
        ]


async def _count_waiting(connection: AsyncConnection, whose: str) -> int:
    parked, on_jobs = [
        (await connection.execute(query, {"whose": whose})).scalar_one() for query in (_PARKED, _ON_JOBS)
    ]
    return int(parked) + int(on_jobs)
