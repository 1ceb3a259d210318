"""What a sweep asks of the catalog: which keys have rows, and the marks and the lease that make it safe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    ColumnElement,
    Integer,
    String,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.checkpoints import Checkpoint
from storage.catalog.clock import SKEW_MS, now_ms
from storage.catalog.database import Database, check_schema
from storage.catalog.dialect import insert, joined
from storage.catalog.kv import dump, read_value, write_value
from storage.catalog.tables import deletion_marks, kv, totals, variants
from storage.totals import LAST_SWEEP, Count, Swept

_PAGE = 5000
SWEEP = "lease:sweep"
VERIFY = "lease:verify"  # beside it: verifying takes long and touches nothing
KEEP_MARKS_MS = 7 * 24 * 3600 * 1000  # longer than any worker works on an upload
_ROW = select(
    variants.c.key, variants.c.upload_id, variants.c.bytes, variants.c.sha256, variants.c.superseded_ms
)
_HAS_ROW = exists().where(variants.c.key == deletion_marks.c.key)
# Only where no row has the key: a Ready outcome asks for marks in the same way, in its own statement. A
# database with several writers has to let one of the two wait for the other here.
_NEW_MARK = insert(deletion_marks).from_select(
    ["key", "marked_ms"],
    select(bindparam("marked", type_=String), bindparam("now", type_=Integer)).where(
        ~exists().where(variants.c.key == bindparam("marked"))
    ),
)
_MARK = _NEW_MARK.on_conflict_do_update(
    index_elements=["key"], set_={"marked_ms": _NEW_MARK.excluded.marked_ms, "moved_ms": None}
)

_lease = type_coerce(kv.c.value, JSON)
_holder = _lease["holder"].as_string()


@dataclass(frozen=True)
class VariantRow:
    """A row of `variants`: its key, its upload, the size and SHA-256 of its file, when it was superseded."""

    key: str
    upload_id: UUID
    bytes: int
    sha256: str
    superseded_ms: int | None  # None: it is current


class Sweeps:
    """The sweeper's questions to one catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self, after: str, upto: str | None, limit: int) -> Sequence[str]:
        """The first `limit` keys that rows have, after the key `after` and up to `upto`, in order.

        Raises: CatalogUnavailable.
        """
        query = select(variants.c.key).where(variants.c.key > after)
        if upto is not None:
            query = query.where(variants.c.key <= upto)
        page = query.order_by(variants.c.key).limit(limit).subquery()
        async with self._database.reading() as connection:
            # Fetching one long text takes a third of the time of fetching as many rows.
            text = (await connection.execute(select(joined(page.c.key)))).scalar_one()
        return sorted(text.split("\n")) if text else []

    async def rows(self, after: str, limit: int) -> Sequence[VariantRow]:
        """The next rows after the key `after`, in order of key. Raises: CatalogUnavailable."""
        query = _ROW.where(variants.c.key > after).order_by(variants.c.key).limit(limit)
        async with self._database.reading() as connection:
            return [_to_row(row) for row in await connection.execute(query)]

    async def superseded(self, before_ms: float, after: str, limit: int) -> Sequence[VariantRow]:
        """The next rows after the key `after` that were superseded before that, in order of key.

        Raises: CatalogUnavailable.
        """
        old = variants.c.superseded_ms < before_ms, variants.c.key > after
        async with self._database.reading() as connection:
            found = await connection.execute(_ROW.where(*old).order_by(variants.c.key).limit(limit))
            return [_to_row(row) for row in found]

    async def find_rows(self, keys: Sequence[str]) -> Mapping[str, VariantRow]:
        """The rows of those of `keys` that have one, by key. Raises: CatalogUnavailable."""
        found: dict[str, VariantRow] = {}
        async with self._database.reading() as connection:
            for start in range(0, len(keys), _PAGE):
                query = _ROW.where(variants.c.key.in_(keys[start : start + _PAGE]))
                found |= {row.key: _to_row(row) for row in await connection.execute(query)}
        return found

    async def total(self) -> Count:
        """The number of rows, and the bytes of their files. Raises: CatalogUnavailable."""
        files, size = func.sum(totals.c.files), func.sum(totals.c.bytes)
        query = select(func.coalesce(files, 0), func.coalesce(size, 0))
        async with self._database.reading() as connection:
            found = await connection.execute(query.where(totals.c.what.in_(("variant", "superseded"))))
            count, size_of_all = found.one()
        return Count(count, size_of_all)

    # -- deletion marks: while a key has one, no row can take it

    async def mark_for_deletion(self, keys: Sequence[str]) -> frozenset[str]:
        """Mark those of `keys` that no row has, so that no row can take them; returns the marked keys.

        Raises: CatalogUnavailable.
        """
        async with self._database.writing() as connection:
            return await _mark(connection, keys)

    async def mark_superseded(self, keys: Sequence[str], before_ms: float) -> frozenset[str]:
        """Delete the rows of those of `keys` that were superseded before `before_ms`; then mark the keys.

        The marked keys that are returned include those whose rows an earlier sweep deleted before it died.

        Raises: CatalogUnavailable.
        """
        async with self._database.writing() as connection:
            old = variants.c.key.in_(keys), variants.c.superseded_ms < before_ms
            await connection.execute(delete(variants).where(*old))
            return await _mark(connection, keys)

    async def clear_marks(
        self, holder: str, *, moved: Sequence[str], untouched: Sequence[str]
    ) -> frozenset[str]:
        """Clear the marks of `untouched` keys and write the time into those of `moved` keys.

        The marks of moved keys stay, because a writer that claimed its upload before that time may rely on a
        file that is gone, and has to publish it again. A holder that has lost the lease leaves open marks to
        the sweep that took over. Returns the moved keys that a row references by now; there are some only
        after such a loss.

        Raises: CatalogUnavailable.
        """
        mine = exists().where(kv.c.name == SWEEP, _holder == holder)
        of_moved = deletion_marks.c.key.in_(moved), or_(deletion_marks.c.moved_ms.is_not(None), mine)
        async with self._database.writing() as connection:
            await connection.execute(delete(deletion_marks).where(deletion_marks.c.key.in_(untouched), mine))
            await connection.execute(update(deletion_marks).where(*of_moved).values(moved_ms=now_ms()))
            query = select(variants.c.key).where(variants.c.key.in_(moved))
            return frozenset((await connection.execute(query)).scalars())

    async def clear_abandoned_marks(self, holder: str = "") -> int:
        """Treat the keys that a dead sweep marked as moved; returns how many there were.

        Does nothing while another than `holder` has the sweep lease. Marks older than a week are deleted.

        Raises: CatalogUnavailable.
        """
        now = now_ms()
        unfinished, old = deletion_marks.c.moved_ms.is_(None), deletion_marks.c.moved_ms < now - KEEP_MARKS_MS
        async with self._database.reading() as connection:
            found = await connection.execute(select(deletion_marks.c.key).where(unfinished | old))
            if found.first() is None:
                return 0
        anothers = exists().where(kv.c.name == SWEEP, _holder != holder, _is_live(now))
        async with self._database.writing() as connection:
            await connection.execute(delete(deletion_marks).where(old))
            finished = update(deletion_marks).where(unfinished, ~anothers).values(moved_ms=now)
            return (await connection.execute(finished)).rowcount

    async def drop_superseded(self, keys: Sequence[str]) -> Sequence[str]:
        """Delete the rows of those of `keys` that are superseded; returns these keys."""
        gone = delete(variants).where(variants.c.key.in_(keys), variants.c.superseded_ms.is_not(None))
        async with self._database.writing() as connection:
            return list((await connection.execute(gone.returning(variants.c.key))).scalars())

    async def last(self) -> Swept | None:
        """What the last finished sweep found at its `time_ms`, None before the first.

        Raises: CatalogUnavailable.
        """
        async with self._database.reading() as connection:
            value = await read_value(connection, LAST_SWEEP)
        return None if value is None else Swept.from_json(value)

    async def remember(self, swept: Swept) -> None:
        """Keep what a sweep found, in place of what the one before did. Raises: CatalogUnavailable."""
        async with self._database.writing() as connection:
            await write_value(connection, LAST_SWEEP, swept)

    async def note_stop(self, reason: str) -> None:
        """Remember that a sweep was stopped before it had found anything. Raises: CatalogUnavailable."""
        before = await self.last() or Swept("", now_ms(), Count(), Count(), {}, Count())
        await self.remember(replace(before, stopped=reason, stops=before.stops + 1, applied_ms=None, done={}))

    # -- how far a sweep has come, and who sweeps

    def checkpoint(self, name: str) -> Checkpoint:
        """Where the progress of one part of the sweep is saved."""
        return Checkpoint(self._database, f"sweep:{name}")

    async def check_schema(self) -> None:
        """Raises: CatalogTooNew when the schema is not this program's, CatalogUnavailable."""
        await check_schema(self._database)

    async def lease(self, holder: str, seconds: float, *, name: str = SWEEP) -> bool:
        """Take or renew the right to sweep (or the one of that name); False while somebody else has it.

        Raises: CatalogUnavailable.
        """
        now, for_ms = now_ms(), int(seconds * 1000)
        lease = {"holder": holder, "until_ms": now + for_ms, "for_ms": for_ms}
        row = {"name": name, "value": dump(lease)}
        taken = (
            insert(kv)
            .values(row)
            .on_conflict_do_update(
                index_elements=["name"], set_=row, where=or_(_holder == holder, ~_is_live(now))
            )
        )
        async with self._database.writing() as connection:
            return bool((await connection.execute(taken)).rowcount)

    async def end_lease(self, holder: str, *, name: str = SWEEP) -> None:
        """Give that right back, if it still is this holder's. Raises: CatalogUnavailable."""
        async with self._database.writing() as connection:
            await connection.execute(delete(kv).where(kv.c.name == name, _holder == holder))


def _to_row(row: Any) -> VariantRow:  # noqa: ANN401 (a row)
    return VariantRow(row.key, UUID(row.upload_id), row.bytes, row.sha256, row.superseded_ms)


async def _mark(connection: AsyncConnection, keys: Sequence[str]) -> frozenset[str]:
    now = now_ms()
    await connection.execute(_MARK, [{"marked": key, "now": now} for key in sorted(keys)])
    marked = select(deletion_marks.c.key).where(
        deletion_marks.c.key.in_(keys), deletion_marks.c.moved_ms.is_(None), ~_HAS_ROW
    )
    return frozenset((await connection.execute(marked)).scalars())


def _is_live(now: int) -> ColumnElement[bool]:
    """Whether a lease lasts. One that would last longer than it was given for was given before the clock
    was put back.
    """
    until_ms, for_ms = _lease["until_ms"].as_integer(), _lease["for_ms"].as_integer()
    return and_(until_ms > now, until_ms <= now + SKEW_MS + for_ms)


__all__ = ["Count", "Sweeps", "Swept", "VariantRow"]
