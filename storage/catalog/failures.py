"""Failed uploads: listed, and discarded when a person says so."""

from collections.abc import Sequence
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Select, exists, func, select, tuple_, update

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.expressions import effective_owner
from storage.catalog.locks import lock_uploads
from storage.catalog.outbox import insert_messages
from storage.catalog.paging import pages
from storage.catalog.records import Message, OriginalFate, State, Upload
from storage.catalog.requeuer import among
from storage.catalog.rows import load_metadata, to_upload
from storage.catalog.tables import uploads, variants

_AGE = (uploads.c.changed_ms, uploads.c.id)
_WAITING = (uploads.c.state.in_((State.QUEUED, State.DELETING)), uploads.c.error_code.is_not(None))


class Failures:
    """The failed uploads of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(
        self, limit: int, *, ids: Sequence[UUID] | None = None, code: str | None = None
    ) -> Sequence[Upload]:
        """The uploads that failed last, newest first: all, or those with these ids or that code."""
        if ids is None:
            return await self._newest(_failed(code), limit)
        some = [await self._newest(_failed(code).where(_one_of(page)), limit) for page in pages(ids)]
        found = chain(*some)
        return sorted(found, key=lambda upload: upload.changed_ms, reverse=True)[:limit]

    async def waiting(
        self,
        limit: int,
        *,
        ids: Sequence[UUID] | None = None,
        code: str | None = None,
        after: Upload | None = None,
    ) -> Sequence[Upload]:
        """The uploads and deletions whose last try has failed and that will be tried again, newest first.

        All, or those with these ids, with that code, or that come `after` that one.
        """
        query = select(uploads).where(*_WAITING)
        if code is not None:
            query = query.where(uploads.c.error_code == code)
        if after is not None:
            query = query.where(tuple_(*_AGE) < (after.changed_ms, str(after.id)))
        if ids is None:
            return await self._newest(query, limit)
        some = [await self._newest(query.where(_one_of(page)), limit) for page in pages(ids)]
        return list(chain(*some))[:limit]

    async def _newest(self, query: Select[Any], limit: int) -> Sequence[Upload]:
        newest_first = query.order_by(*(column.desc() for column in _AGE)).limit(limit)
        async with self._database.reading() as connection:
            rows = await connection.execute(newest_first)
            return [to_upload(dict(row), []) for row in rows.mappings()]

    async def count_waiting(self) -> int:
        """How many those are."""
        async with self._database.reading() as connection:
            return int((await connection.execute(select(func.count()).where(*_WAITING))).scalar_one())

    async def discard(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        """Turn those of `ids` that are failed and have no variants into tombstones; returns these.

        Apps get a message of each deletion. An upload that still has variants of earlier content
        is left alone, because discarding a failure must not remove what is served.
        """
        return [one for page in pages(ids) for one in await self._discard_page(page)]

    @repeated
    async def _discard_page(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        now = self._database.now_ms()
        bare = [*among(ids, State.FAILED), ~exists().where(variants.c.upload_id == uploads.c.id)]
        gone: dict[str, str | None] = {"state": State.DELETED, "metadata": "{}"}
        gone |= {"error_code": None, "error_message": None}
        # Nobody has touched the original.
        gone |= {"replaces": None, "original_fate": OriginalFate.KEPT}
        discard = update(uploads).where(*bare).values(**gone, attempts=0, changed_ms=now)
        async with self._database.writing() as connection:
            await lock_uploads(connection, ids)
            found = (await connection.execute(select(uploads).where(*bare))).mappings().all()
            discarded = set((await connection.execute(discard.returning(uploads.c.id))).scalars())
            chosen = [row for row in found if row["id"] in discarded]
            await insert_messages(connection, [_deletion_message(row, now) for row in chosen])
        return [UUID(row["id"]) for row in chosen]


def _deletion_message(row: RowMapping, now: int) -> Message:
    metadata = load_metadata(row["metadata"])
    return Message(
        seq=0,
        kind=State.DELETED,
        id=UUID(row["id"]),
        source=row["source"],
        recipe=row["recipe"],
        metadata=metadata,
        time_ms=now,
        traceparent=row["traceparent"],
        owner=effective_owner(row["owner"], row["source"]),
        original_fate=OriginalFate.KEPT,
    )


def _failed(code: str | None) -> Select[Any]:
    query = select(uploads).where(uploads.c.state == State.FAILED)
    return query if code is None else query.where(uploads.c.error_code == code)


def _one_of(ids: Sequence[UUID]) -> ColumnElement[bool]:
    return uploads.c.id.in_([str(upload_id) for upload_id in ids])
