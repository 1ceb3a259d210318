"""A catalog moves to another database: all rows, under the same UUID; from then on the old one is refused.

From the first step on the old one is sealed: nobody can write what would not be copied, not even a worker
that was frozen. What a process that died has copied is removed, and copied again.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy import ColumnElement, Table, delete, func, insert, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog import tables
from storage.catalog.database import Database, identity
from storage.catalog.kv import write_value
from storage.catalog.moved import MOVED, Mark, read_mark
from storage.catalog.outbox import Outbox
from storage.catalog.reports import Reports
from storage.catalog.rows import Row

_TABLES = (
    tables.uploads,  # first: variants refer to it
    tables.variants,
    tables.outbox,
    tables.dead_letters,
    tables.poison_contents,
    tables.deletion_marks,
    tables.snapshots,
    tables.kv,
)
_OWN = ("id", "root", MOVED)  # rows of `kv` that are each catalog's own
_PAGE = 1000  # rows
_NUL = str.maketrans({"\0": "\N{REPLACEMENT CHARACTER}"})  # which Postgres takes in no text


class MoveRefused(Exception):
    """The catalog cannot be moved there, or back; the message says why."""


@dataclass(frozen=True)
class RowsCopied:
    """How many rows of a table were copied in one step."""

    table: str
    rows: int


async def count_rows(database: Database) -> Mapping[str, int]:
    """How many rows of each table a move copies. Raises: CatalogUnavailable."""
    async with database.reading() as connection:
        return {
            str(table.name): (
                await connection.execute(select(func.count()).select_from(table).where(_is_copied(table)))
            ).scalar_one()
            for table in _TABLES
        }


async def cancel(database: Database) -> None:
    """Let a catalog be used again whose move was killed. Raises: MoveRefused where it had ended."""
    async with database.writing() as connection:
        mark = await read_mark(connection)
        if mark is not None and (mark.done or mark.to is None):
            raise MoveRefused("The catalog was moved, or is the copy: it is used again by moving back.")
        await _unseal(database, connection)


class CatalogMove:
    """The move of the catalog `source` into `target`, which people know by those names.

    Every verb raises CatalogUnavailable.
    """

    def __init__(self, source: Database, target: Database, *, source_name: str, target_name: str) -> None:
        self._source = source
        self._target = target
        self._source_name = source_name
        self._target_name = target_name
        self._nonce = uuid4().hex

    async def check(self) -> bool:
        """Whether the target has everything already, and only the source does not know that it has moved.

        Raises: MoveRefused unless the target is new, or a copy of this catalog, old or unfinished.
        """
        catalog_id, _ = await identity(self._source)
        target_id, target_is_new = await identity(self._target)
        mark = await _mark_of(self._target)
        if mark is None and target_is_new and not any((await count_rows(self._target)).values()):
            return False
        if (target_id if mark is None else mark.catalog) != catalog_id:
            raise MoveRefused(f"{self._target_name} has another catalog: choose an empty database.")
        return mark is None

    async def run(self) -> AsyncGenerator[RowsCopied, None]:
        """Copy all rows and compare them, then let the target be the catalog; yields step by step.

        Raises: MoveRefused.
        """
        catalog_id, is_new = await identity(self._source)
        mark = Mark(catalog_id, self._nonce, self._source_name, self._target_name, done=False)
        async with self._sealed(mark):
            if not await self.check():
                await self._empty_target(replace(mark, to=None))
                for table in _TABLES:
                    async for count in self._copy(table):
                        yield RowsCopied(str(table.name), count)
                await Outbox(self._target).begin_above(await Outbox(self._source).given_seq())
                await self._compare()
                await self._finish_target({"id": catalog_id, "root": "new" if is_new else "bound"})
            async with self._source.writing() as connection:
                await write_value(connection, MOVED, replace(mark, done=True))

    @asynccontextmanager
    async def _sealed(self, mark: Mark) -> AsyncIterator[None]:
        """Nobody writes the source meanwhile; or ever again, once it is marked as moved."""
        async with self._source.writing() as connection:
            before = await read_mark(connection)
            if before is not None and (before.done or before.to is None):
                raise MoveRefused(f"{self._source_name} is not the catalog (any more).")
            await write_value(connection, MOVED, mark)
            for statement in self._source.backend.seal(
                f"the catalog {mark.source} moves to {mark.to}: nothing is written here"
            ):
                await connection.exec_driver_sql(statement)
        try:
            if await _mark_of(self._target) == mark:
                raise MoveRefused(f"{self._target_name} is the very catalog that is to move.")
            yield
        finally:
            if await _mark_of(self._source) == mark:
                await cancel(self._source)

    async def _empty_target(self, mark: Mark) -> None:
        async with self._target.writing() as connection:
            await _unseal(self._target, connection)
            await write_value(connection, MOVED, mark)
            for table in reversed(_TABLES):
                await connection.execute(delete(table).where(_is_copied(table)))

    async def _copy(self, table: Table) -> AsyncIterator[int]:
        last: list[object] | None = None
        key = list(table.primary_key.columns)
        while True:
            beyond = true() if last is None else tuple_(*key) > last
            query = select(table).where(_is_copied(table), beyond).order_by(*key).limit(_PAGE)
            async with self._source.reading() as connection:
                rows = [_cleaned(dict(row)) for row in (await connection.execute(query)).mappings()]
            if not rows:
                return
            async with self._target.writing(relaxed_durability=True) as connection:
                await connection.execute(insert(table), rows)
            yield len(rows)
            last = [rows[-1][column.name] for column in key]

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

    async def _finish_target(self, own: Mapping[str, str]) -> None:
        async with self._target.writing() as connection:
            for name, value in own.items():
                await connection.execute(
                    update(tables.kv).where(tables.kv.c.name == name).values(value=value)
                )
            await self._target.backend.give_numbers_above_rows(connection)
            await connection.execute(delete(tables.kv).where(tables.kv.c.name == MOVED))


async def _mark_of(database: Database) -> Mark | None:
    async with database.reading() as connection:
        return await read_mark(connection)


async def _unseal(database: Database, connection: AsyncConnection) -> None:
    for statement in database.backend.unseal():
        await connection.exec_driver_sql(statement)
    await connection.execute(delete(tables.kv).where(tables.kv.c.name == MOVED))


def _is_copied(table: Table) -> ColumnElement[bool]:
    if table is not tables.kv:
        return true()
    return tables.kv.c.name.not_in(_OWN) & ~tables.kv.c.name.startswith("lease:")


def _cleaned(row: Row) -> Row:
    return {name: value.translate(_NUL) if isinstance(value, str) else value for name, value in row.items()}
