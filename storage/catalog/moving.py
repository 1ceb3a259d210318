"""A catalog moves to another database: all rows, under the same UUID; from then on the old one is refused.

From the first step on the old one is sealed: nobody can write what would not be copied, not even a worker
that was frozen. What a process that died has copied is removed, and copied again. Each step asks for the
mark of its own move, so that one that was cancelled or replaced meanwhile cannot end.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from uuid import uuid4

from sqlalchemy import ColumnElement, Table, delete, func, select, true, tuple_, update

from storage.catalog import tables
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database, identity
from storage.catalog.kv import read_value, replace_value, write_value
from storage.catalog.moved import MOVED, Mark, check_not_moved, read_mark
from storage.catalog.outbox import Outbox
from storage.catalog.reports import Reports
from storage.catalog.sqlalchemy_parts import AsyncConnection

_TABLES = (
    tables.uploads,  # first: variants refer to it
    tables.variants,
    tables.outbox,
    tables.dead_letters,
    tables.poison_contents,
    tables.deletion_marks,
    tables.snapshots,
    tables.http_keys,
    tables.owner_costs,
    tables.owner_uses,
    tables.webhook_deliveries,
    tables.kv,
)
_FILLED = "filled"  # the row of `kv` that says by which move its catalog was filled
_OWN = ("id", "root", MOVED, _FILLED)  # rows of `kv` that are each catalog's own
# Variants by upload: two of their three indexes then grow at their end, and one is written all over.
_ORDER = {tables.variants: (tables.variants.c.upload_id, tables.variants.c.key)}
_PAGE = 5000  # rows: some KiB each; dead letters have 64 MiB at most, all together
_EMPTIED = 10_000  # rows in a transaction: each is counted by the triggers of the totals
# Rows, after which what they have added to the totals is folded: all of it at once may take too long.
_FOLDED = 100_000


class MoveRefused(Exception):
    """The catalog cannot be moved there, or back; the message says why."""


@dataclass(frozen=True)
class RowsCopied:
    """How many rows of a table were copied in one step."""

    table: str
    rows: int


async def count_rows(database: Database) -> Mapping[str, int]:
    """How many rows of each table a move copies. Raises: CatalogUnavailable."""
    async with database.reading(patient=True) as connection:
        return {
            str(table.name): (
                await connection.execute(select(func.count()).select_from(table).where(_is_copied(table)))
            ).scalar_one()
            for table in _TABLES
        }


async def cancel(database: Database) -> None:
    """Let a catalog be used again whose move was killed.

    Raises: MoveRefused where the other catalog may be the one that is used.
    """
    async with database.writing() as connection:
        mark = await read_mark(connection)
        if mark is not None and (mark.done or mark.to is None):
            raise MoveRefused("The catalog was moved, or is the copy: it is used again by moving back.")
        if mark is not None and mark.closing:
            raise MoveRefused(f"{mark.to} may be the catalog already: run the move again, and it ends.")
        await _replace_mark(connection, mark, None)
        await _unseal(database, connection)


class CatalogMove:
    """The move of the catalog `source` into `target`, which people know by those names.

    Every verb raises CatalogUnavailable.
    """

    def __init__(
        self,
        source: Database,
        target: Database,
        *,
        source_name: str,
        target_name: str,
        folded_after: int = _FOLDED,
    ) -> None:
        self._source = source
        self._target = target
        self._source_name = source_name
        self._target_name = target_name
        self._nonce = uuid4().hex
        self._folded_after = folded_after
        self._unfolded = 0

    async def check(self) -> None:
        """Raises: MoveRefused unless the target is new, or a copy of this catalog that nobody uses."""
        if await self._ending() is None:
            await self._check_target((await identity(self._source))[0])

    async def run(self) -> AsyncGenerator[RowsCopied, None]:
        """Copy all rows and compare them, then let the target be the catalog; yields step by step.

        Raises: MoveRefused.
        """
        closing = await self._ending()
        if closing is None:
            catalog_id, is_new = await identity(self._source)
            mark = Mark(catalog_id, self._nonce, self._source_name, self._target_name)
            closing, filling = replace(mark, closing=True), replace(mark, to=None)
            async with self._sealed(mark):
                await self._check_target(catalog_id)
                await self._empty_target(filling)
                for table in _TABLES:
                    async for count in self._copy(table, filling):
                        yield RowsCopied(str(table.name), count)
                await Outbox(self._target).begin_above(await Outbox(self._source).given_seq())
                await self._compare()
                await _change_mark(self._source, mark, closing)
            await self._finish_target(filling, {"id": catalog_id, "root": "new" if is_new else "bound"})
        await _change_mark(self._source, closing, replace(closing, done=True))

    async def _ending(self) -> Mark | None:
        """The mark of a move that only the source does not know to have ended; None: there is no such.

        Nobody has written the source since: such a move cannot be cancelled.
        """
        mark = await _mark_of(self._source)
        if mark is None or not mark.closing or mark.done:
            return None
        if mark.to != self._target_name:
            raise MoveRefused(f"{mark.to} may be the catalog already: run the move to that one, and it ends.")
        async with self._target.reading() as connection:
            filled = await read_value(connection, _FILLED)
            return mark if filled == _filled_by(mark) and await read_mark(connection) is None else None

    async def _check_target(self, catalog_id: str) -> None:
        target_id, target_is_new = await identity(self._target)
        mark = await _mark_of(self._target)
        if mark is None and target_is_new and not any((await count_rows(self._target)).values()):
            return
        if (target_id if mark is None else mark.catalog) != catalog_id:
            raise MoveRefused(f"{self._target_name} has another catalog: choose an empty database.")
        if mark is None:
            raise MoveRefused(
                f"{self._target_name} has a copy of this catalog that may have been used since: choose an "
                "empty database."
            )
        if mark.to is not None and not mark.done:
            raise MoveRefused(f"{self._target_name} moves to {mark.to}: end that, or take it back.")

    @asynccontextmanager
    async def _sealed(self, mark: Mark) -> AsyncIterator[None]:
        """Nobody writes the source meanwhile; or ever again, once its move is closing."""
        await self._seal(mark)
        try:
            if await _mark_of(self._target) == mark:
                raise MoveRefused(f"{self._target_name} is the very catalog that is to move.")
            yield
        finally:
            if await _mark_of(self._source) == mark:
                await cancel(self._source)

    @repeated  # where a writer is left, each may hold a table that the other waits for
    async def _seal(self, mark: Mark) -> None:
        async with self._source.writing() as connection:
            before = await read_mark(connection)
            if before is not None and (before.done or before.to is None):
                await check_not_moved(connection, self._source_name)
            await _replace_mark(connection, before, mark)
            for statement in self._source.backend.seal(
                f"the catalog {mark.source} moves to {mark.to}: nothing is written here"
            ):
                await connection.exec_driver_sql(statement)

    async def _empty_target(self, filling: Mark) -> None:
        async with self._target.writing() as connection:
            await _unseal(self._target, connection)
            await write_value(connection, MOVED, filling)
        for table in reversed(_TABLES):
            while await self._remove_some(table, filling):
                pass

    async def _remove_some(self, table: Table, filling: Mark) -> bool:
        key = tuple_(*table.primary_key.columns)
        first = select(*table.primary_key.columns).where(_is_copied(table)).limit(_EMPTIED)
        async with self._target.writing() as connection:
            await _check_mark(connection, filling)
            count = (await connection.execute(delete(table).where(key.in_(first)))).rowcount
        await self._fold(count)
        return bool(count)

    async def _copy(self, table: Table, filling: Mark) -> AsyncIterator[int]:
        order = _ORDER.get(table, tuple(table.primary_key.columns))
        beyond: ColumnElement[bool] = true()
        while True:
            query = select(*order, table).where(_is_copied(table), beyond).order_by(*order).limit(_PAGE)
            async with self._source.reading() as connection:
                found = (await connection.execute(query)).all()
            if not found:
                return
            async with self._target.writing(relaxed_durability=True) as connection:
                await _check_mark(connection, filling)
                rows = [row[len(order) :] for row in found]
                await self._target.backend.insert(connection, table, rows)
            await self._fold(len(found))
            yield len(found)
            beyond = tuple_(*order) > found[-1][: len(order)]

    async def _fold(self, changed: int) -> None:
        """Fold what was added to the totals, once the rows that were changed since are many."""
        self._unfolded += changed
        if self._unfolded >= self._folded_after:
            await self._target.compact()
            self._unfolded = 0

    async def _compare(self) -> None:
        """Raises: MoveRefused where the rows, or what they add up to, are not the same on both sides."""
        counts = await count_rows(self._source), await count_rows(self._target)
        if wrong := [name for name, count in counts[0].items() if counts[1][name] != count]:
            raise MoveRefused(f"The copy has more or fewer rows of {', '.join(wrong)}: nothing has moved.")
        reports = Reports(self._source), Reports(self._target)
        if await reports[0].count_all() != await reports[1].count_all():
            raise MoveRefused("The rows of the copy add up to something else: nothing has moved.")
        if await reports[1].check_totals():
            raise MoveRefused("The totals of the copy are not what its rows add up to: nothing has moved.")

    async def _finish_target(self, filling: Mark, own: Mapping[str, str]) -> None:
        await self._target.compact()
        async with self._target.writing() as connection:
            for name, value in own.items():
                await connection.execute(
                    update(tables.kv).where(tables.kv.c.name == name).values(value=value)
                )
            await self._target.backend.give_numbers_above_rows(connection)
            await write_value(connection, _FILLED, _filled_by(filling))
            await _replace_mark(connection, filling, None)


async def _mark_of(database: Database) -> Mark | None:
    async with database.reading() as connection:
        return await read_mark(connection)


async def _change_mark(database: Database, before: Mark, after: Mark) -> None:
    async with database.writing() as connection:
        await _replace_mark(connection, before, after)


async def _replace_mark(connection: AsyncConnection, before: Mark | None, after: Mark | None) -> None:
    """Raises: MoveRefused where somebody else has changed the mark, and nothing else is done then."""
    known = None if before is None else asdict(before)
    if before != after and not await replace_value(connection, MOVED, known, after):
        raise MoveRefused("The move was cancelled, or another one has begun: nothing has moved.")


async def _check_mark(connection: AsyncConnection, mark: Mark) -> None:
    if await read_mark(connection) != mark:
        raise MoveRefused("Another move fills the same database: nothing has moved.")


def _filled_by(mark: Mark) -> Mapping[str, str]:
    return {"nonce": mark.nonce}


async def _unseal(database: Database, connection: AsyncConnection) -> None:
    for statement in database.backend.unseal():
        await connection.exec_driver_sql(statement)
    await connection.execute(delete(tables.kv).where(tables.kv.c.name == MOVED))


def _is_copied(table: Table) -> ColumnElement[bool]:
    if table is not tables.kv:
        return true()
    return tables.kv.c.name.not_in(_OWN) & ~tables.kv.c.name.startswith("lease:")
