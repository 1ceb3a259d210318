"""Requeuing: uploads are parked for another try, each where it is still as the caller has found it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, case, exists, select, tuple_, update

from storage.catalog.clock import SKEW_MS
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.locks import lock_uploads
from storage.catalog.paging import pages
from storage.catalog.records import WAITING, StalledUpload, State
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import IS_ON_A_JOB, PARKED, uploads, variants

DAMAGED = ""  # in place of a hash: no file has it

_IS_CURRENT = variants.c.superseded_ms.is_(None)

StalledUploads = Sequence[StalledUpload]


class Requeuer:
    """Parks uploads of one catalog, so that they get jobs when it is the turn of their owners.

    Every verb raises CatalogUnavailable. Of many uploads some may be parked then.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def requeue(self, ids: Sequence[UUID], state: State) -> Sequence[UUID]:
        """Queue those of `ids` that are in `state`, as if their event had just come; returns which.

        Their variants stay until newer ones are published.
        """
        return [each for page in pages(ids) for each in await self._requeue_page(page, state)]

    @repeated
    async def _requeue_page(self, ids: Sequence[UUID], state: State) -> Sequence[UUID]:
        async with self._database.writing() as connection:
            return await self._requeue(connection, among(ids, state), queued_ms=self._database.now_ms())

    async def requeue_made(self, made: Mapping[UUID, int]) -> Sequence[UUID]:
        """Queue those uploads that are still as the claim with that token made them; returns which.

        Their age (`queued_ms`) stays, and their variants stay until newer ones are published.
        """
        found = [await self._requeue_made_page(dict(page)) for page in pages(list(made.items()))]
        return [each for page in found for each in page]

    @repeated
    async def _requeue_made_page(self, made: Mapping[UUID, int]) -> Sequence[UUID]:
        claimed = tuple_(uploads.c.id, uploads.c.claim).in_([(str(each), made[each]) for each in made])
        async with self._database.writing() as connection:
            return await self._requeue(connection, [*among(list(made), State.READY), claimed])

    async def requeue_damaged(self, damaged: Mapping[str, str]) -> Sequence[UUID]:
        """Queue the uploads of damaged files, given as key and SHA-256 of their rows, to be made again.

        A row that has another SHA-256 by now, is superseded, or whose upload is not ready is left alone. The
        files stay where they are until they are replaced. Returns which are queued.
        """
        found = [await self._requeue_damaged_page(dict(page)) for page in pages(list(damaged.items()))]
        return [each for page in found for each in page]

    @repeated
    async def _requeue_damaged_page(self, damaged: Mapping[str, str]) -> Sequence[UUID]:
        now = self._database.now_ms()
        of_ready = exists().where(uploads.c.id == variants.c.upload_id, uploads.c.state == State.READY)
        as_read = tuple_(variants.c.key, variants.c.sha256).in_(list(damaged.items()))
        mine = variants.c.key.in_(list(damaged)), as_read, _IS_CURRENT
        async with self._database.writing() as connection:
            found = await connection.execute(select(variants.c.upload_id).where(*mine))
            # Before their variants, as whoever commits an outcome does.
            await lock_uploads(connection, [UUID(each) for each in set(found.scalars())])
            # What differs from its row is published again, whatever is there.
            doubted = update(variants).where(*mine, of_ready).values(sha256=DAMAGED)
            changed = await connection.execute(doubted.returning(variants.c.upload_id))
            ready = among([UUID(each) for each in sorted(set(changed.scalars()))], State.READY)
            return await self._requeue(connection, ready, queued_ms=now)

    async def overdue(self, untouched_ms: int, limit: int) -> Sequence[StalledUpload]:
        """The first `limit` of `all_overdue`."""
        found: list[StalledUpload] = []
        async with aclosing(self.all_overdue(untouched_ms, limit)) as pages:
            async for page in pages:
                found += page
                if len(found) >= limit:
                    break
        return found[:limit]

    async def all_overdue(self, untouched_ms: int, page: int) -> AsyncGenerator[StalledUploads, None]:
        """Uploads that are due for work and have not changed for `untouched_ms`, in pages, oldest first.

        After them come those that changed in the future: the clock was put back since. What is parked is on
        no job that could be gone.
        """
        now = self._database.now_ms()
        age = uploads.c.changed_ms, uploads.c.id
        waiting = select(*age, uploads.c.job_id, uploads.c.not_before_ms).where(IS_ON_A_JOB)
        old = uploads.c.not_before_ms <= now, uploads.c.changed_ms <= now - untouched_ms
        for query in (waiting.where(*old), waiting.where(uploads.c.changed_ms > now + SKEW_MS)):
            following = query.order_by(*age).limit(page)
            while rows := await self._read(following):
                yield [StalledUpload(UUID(row.id), row.job_id, row.not_before_ms) for row in rows]
                if len(rows) < page:
                    break
                after = rows[-1].changed_ms, rows[-1].id
                following = query.where(tuple_(*age) > after).order_by(*age).limit(page)

    async def _read(self, query: Select[Any]) -> Sequence[Row[Any]]:
        async with self._database.reading() as connection:
            return list(await connection.execute(query))

    async def requeue_stalled(self, stalled: Sequence[StalledUpload]) -> Sequence[UUID]:
        """Requeue those that are still on the job that is gone; they are due now, unless put off since.

        Returns which.
        """
        return [each for page in pages(stalled) for each in await self._requeue_stalled_page(page)]

    @repeated
    async def _requeue_stalled_page(self, stalled: Sequence[StalledUpload]) -> Sequence[UUID]:
        now = self._database.now_ms()
        async with self._database.writing() as connection:
            await lock_uploads(connection, [each.id for each in stalled])
            return [each.id for each in stalled if await _park(connection, each, now)]

    async def make_due(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        """Have those of `ids` whose next try, or deletion, is due later be due now; returns which."""
        return [each for page in pages(ids) for each in await self._make_due_page(page)]

    @repeated
    async def _make_due_page(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        now = self._database.now_ms()
        put_off = uploads.c.state.in_((State.QUEUED, State.DELETING)), uploads.c.not_before_ms > now
        chosen = uploads.c.id.in_([str(each) for each in ids])
        changes = {"job_id": PARKED, "changed_ms": now, "not_before_ms": now}
        due = update(uploads).where(chosen, *put_off).values(changes)
        async with self._database.writing() as connection:
            await lock_uploads(connection, ids)
            changed = await connection.execute(due.returning(uploads.c.id))
            return [UUID(each) for each in changed.scalars()]

    async def _requeue(
        self,
        connection: AsyncConnection,
        wanted: Sequence[ColumnElement[bool]],
        **changes: int,
    ) -> Sequence[UUID]:
        """Park the uploads that are as `wanted`, with no attempts against them."""
        now = self._database.now_ms()
        fresh: dict[str, Any] = {"state": State.QUEUED, "attempts": 0, "crash_count": 0, "seen": None}
        fresh |= {"job_id": PARKED, "changed_ms": now, "not_before_ms": now, **changes}
        found = (await connection.execute(select(uploads.c.id).where(*wanted))).scalars().all()
        await lock_uploads(connection, [UUID(each) for each in found])
        # As wanted still: one that was taken meanwhile is somebody else's.
        queued = update(uploads).where(uploads.c.id.in_(found), *wanted).values(**fresh)
        changed = (await connection.execute(queued.returning(uploads.c.id))).scalars()
        return [UUID(each) for each in changed]


def among(ids: Sequence[UUID], state: State) -> Sequence[ColumnElement[bool]]:
    """Those of `ids` that are in `state`, as a condition."""
    return [uploads.c.id.in_([str(upload_id) for upload_id in ids]), uploads.c.state == state]


async def _park(connection: AsyncConnection, upload: StalledUpload, now: int) -> bool:
    """Park an upload, unless it is on another job by now than it was."""
    here = uploads.c.id == str(upload.id), uploads.c.job_id == upload.job_id, uploads.c.state.in_(WAITING)
    as_found = uploads.c.not_before_ms == upload.not_before_ms
    due_ms = case((as_found, now), else_=uploads.c.not_before_ms)
    parked = update(uploads).where(*here).values(job_id=PARKED, changed_ms=now, not_before_ms=due_ms)
    return bool((await connection.execute(parked)).rowcount)
