"""Back-fill: uploads looked through in order of their ids, to find those that are to be done again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.clock import now_ms
from storage.catalog.database import Database
from storage.catalog.records import State, Upload
from storage.catalog.rows import to_upload, to_variant
from storage.catalog.tables import uploads, variants


@dataclass(frozen=True)
class Filter:
    """Which uploads are looked at: in which state, of which recipe, failed how, changed since when (ms)."""

    state: State = State.READY
    recipe: str | None = None
    code: str | None = None
    since_ms: int | None = None


class Backfill:
    """The uploads of one catalog, page by page."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Filter, after: str, limit: int) -> Sequence[Upload]:
        """The next uploads after the id `after`, with their current variants, in order of id.

        Raises: CatalogUnavailable.
        """
        query = select(uploads).where(*_conditions(wanted, after))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(uploads.c.id).limit(limit))).mappings().all()
            ids = [row["id"] for row in rows]
            current = variants.c.upload_id.in_(ids), variants.c.superseded_ms.is_(None)
            found = (await connection.execute(select(variants).where(*current))).mappings().all()
        return [
            to_upload(dict(row), [to_variant(dict(one)) for one in found if one["upload_id"] == row["id"]])
            for row in rows
        ]

    async def count(self, wanted: Filter, after: str) -> int:
        """How many uploads there are after the id `after`. Raises: CatalogUnavailable."""
        query = select(func.count()).select_from(uploads).where(*_conditions(wanted, after))
        async with self._database.reading() as connection:
            return (await connection.execute(query)).scalar_one()

    async def requeue(
        self, ids: Sequence[UUID], state: State, *, uploads_per_job: int, new_job_id: Callable[[], str]
    ) -> Mapping[str, Sequence[UUID]]:
        """Queue those of `ids` that are in `state`, as if their event had just come; returns their jobs.

        What they have stays until something newer is published. Raises: CatalogUnavailable.
        """
        async with self._database.writing() as connection:
            return await queue_again(
                connection, among(ids, state), uploads_per_job=uploads_per_job, new_job_id=new_job_id
            )


def _conditions(wanted: Filter, after: str) -> list[ColumnElement[bool]]:
    conditions = [uploads.c.state == wanted.state, uploads.c.id > after]
    if wanted.recipe is not None:
        conditions.append(uploads.c.recipe == wanted.recipe)
    if wanted.code is not None:
        conditions.append(uploads.c.error_code == wanted.code)
    if wanted.since_ms is not None:
        conditions.append(uploads.c.changed_ms >= wanted.since_ms)
    return conditions


async def queue_again(
    connection: AsyncConnection,
    wanted: Sequence[ColumnElement[bool]],
    *,
    uploads_per_job: int,
    new_job_id: Callable[[], str],
    as_old: bool = False,
) -> Mapping[str, Sequence[UUID]]:
    """Put the uploads that are as `wanted` on new jobs, with no attempts against them.

    They are queued from now on, or `as_old` as they were.
    """
    now = now_ms()
    fresh: dict[str, Any] = {"state": State.QUEUED, "attempts": 0, "crash_count": 0, "seen": None}
    fresh |= {"changed_ms": now, "not_before_ms": now, **({} if as_old else {"queued_ms": now})}
    found = list((await connection.execute(select(uploads.c.id).where(*wanted))).scalars())
    jobs: dict[str, Sequence[UUID]] = {}
    for start in range(0, len(found), uploads_per_job):
        job_id, chosen = new_job_id(), uploads.c.id.in_(found[start : start + uploads_per_job])
        # As wanted still: one that was taken meanwhile is not on the job.
        queued = update(uploads).where(chosen, *wanted).values(job_id=job_id, **fresh).returning(uploads.c.id)
        if ids := [UUID(each) for each in (await connection.execute(queued)).scalars()]:
            jobs[job_id] = ids
    return jobs


def among(ids: Sequence[UUID], state: State) -> Sequence[ColumnElement[bool]]:
    """Those of `ids` that are in `state`, as a condition."""
    return [uploads.c.id.in_([str(upload_id) for upload_id in ids]), uploads.c.state == state]
