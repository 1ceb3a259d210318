"""The catalog's database: opened and migrated here, and every transaction begun here."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Self
from uuid import uuid4

from sqlalchemy import exists, false, insert, select, update

from storage.catalog import schema, tables
from storage.catalog.address import Address
from storage.catalog.backend import Backend
from storage.catalog.condition import Condition
from storage.catalog.conflicts import repeated
from storage.catalog.moved import check_not_moved
from storage.catalog.slow import report_slow
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.sqlite_file import FileRoom
from storage.errors import CatalogDamaged, CatalogObsolete, NoCatalog
from storage.paths import has_catalog
from storage.watch import NOBODY, CatalogOperation, CatalogWatch

BUSY_TIMEOUT_S = 10.0
WRITE_AGAIN_S = 30.0  # of a catalog in which nobody may have written for long
# It reads no row, and fails where a table is gone: by the names, as every other statement looks for them.
_ALL_TABLES = select(
    *(exists(select(1).select_from(table).where(false())) for table in tables.metadata.sorted_tables)
)

_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class Migrated:
    """A catalog that was brought from one schema to another, and the copy of it as it was before."""

    before: str
    after: str
    copy: Path | None  # None: no program but the operator's can make one


class Database:
    """Transactions on one catalog, whatever is beneath it."""

    migrated: Migrated | None = None

    def __init__(self, backend: Backend, watch: CatalogWatch = NOBODY) -> None:
        self.backend = backend
        self._engine = backend.engine
        self._watch = watch
        self._operation: CatalogOperation = "other"  # what `watch` is told its transactions are for
        self._wrote_at = float("-inf")
        if watch.slow_s < inf:
            report_slow(backend.engine, watch)

    def used_for(self, operation: CatalogOperation) -> Self:
        """The same catalog, for transactions that are told of under that name."""
        used = copy(self)
        used._operation = operation
        return used

    @property
    def condition(self) -> Condition:
        """What was met in the catalog."""
        return self.backend.condition

    async def bring_up_to_date(self, *, migrate: bool) -> None:
        """Make the tables of a new catalog, or copy and migrate one of an older schema where that is allowed.

        Raises: CatalogUnavailable, CatalogDamaged, CatalogUnfit, CatalogTooNew, CatalogTooOld.
        """
        with self.condition.watched():
            async with self.backend.migrating() as connection:
                found, newest = await connection.run_sync(schema.read), schema.newest()
                if found not in (None, newest):
                    schema.check_known(found, migrate=migrate, done_by=self.backend.migrated_by)
                    copy = await self.backend.copy_before(newest)
                    self.migrated = Migrated(str(found), newest, copy)
                if found is None:
                    await connection.run_sync(schema.check_free, self.condition.name)
                    await self.backend.make_way(connection)
                if found != newest:
                    await connection.run_sync(schema.upgrade)
                if found is None:
                    rows = [{"name": "id", "value": str(uuid4())}, {"name": "root", "value": "new"}]
                    await connection.execute(insert(tables.kv), rows)

    @asynccontextmanager
    async def reading(self, *, patient: bool = False, inline: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one moment of the catalog.

        It is `patient` where a statement may take minutes, and `inline` if it reads few rows, by key.

        Raises: CatalogUnavailable, CatalogDamaged.
        """
        with self._timed(), self.condition.watched():
            async with self.backend.reading(patient=patient, inline=inline) as connection:
                yield connection

    @asynccontextmanager
    async def writing(
        self, *, inline: bool = False, relaxed_durability: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; `inline` if it reads few rows, by key.

        With `relaxed_durability` a power cut may undo it, until the next ordinary commit. Other processes see
        it at once, so it suits what matters only as long as they live.

        Raises: CatalogUnavailable, CatalogDamaged.
        """
        began = time.perf_counter()
        with self._timed(), self.condition.watched():
            async with self.backend.writing(
                inline=inline, relaxed_durability=relaxed_durability
            ) as connection:
                self._watch.took("lock", time.perf_counter() - began)
                yield connection
                done = time.perf_counter()
        if (took := time.perf_counter() - done) > self._watch.slow_s:  # the disk is waited for there
            self._watch.was_slow("COMMIT", took)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._watch.took(self._operation, time.perf_counter() - began)

    async def share(self, connection: AsyncConnection, name: str) -> None:
        """Let nobody `exclude` others under that name until this transaction ends."""
        await self.backend.share(connection, name)

    async def exclude(self, connection: AsyncConnection, name: str) -> None:
        """Wait for those who `share` or `exclude` under that name, and keep them out until the end."""
        await self.backend.exclude(connection, name)

    def now_ms(self) -> int:
        """This moment in ms since 1970, by the clock that all hosts of the catalog compare times by."""
        return self.backend.now_ms()

    def met(self, error: CatalogDamaged) -> None:
        """Remember that the catalog is damaged."""
        self.condition.met(error)

    async def problem(self) -> str | None:
        """What is wrong with the catalog as a whole; None where everything that was tried worked.

        Damage is reported until a check of the whole finds none. Raises: CatalogUnavailable.
        """
        if exchanged := self.backend.exchanged():
            return exchanged
        await self.check_tables()
        await self.backend.check_damage()
        if not self.condition.takes_writes or time.monotonic() - self._wrote_at > WRITE_AGAIN_S:
            await self.check_writable()
        return self.condition.damage

    async def check_tables(self) -> None:
        """Raises: CatalogUnavailable, which says so where one of its tables is gone."""
        async with self.reading() as connection:
            await connection.execute(_ALL_TABLES)

    async def compact(self) -> int:
        """Make smaller what has grown; returns how many bytes went back to the disk, where it was much.

        Raises: CatalogUnavailable.
        """
        with self.condition.watched():
            return await self.backend.compact()

    async def room(self) -> FileRoom | None:
        """How much of the catalog's file is used; None: there is none. Raises: CatalogUnavailable."""
        with self.condition.watched():
            return await self.backend.room()

    def find_large_log(self) -> str | None:
        """A warning while the log of the catalog is large."""
        return self.backend.find_large_log()

    def large_log(self) -> str | None:
        """A warning where the log of the catalog has become large, once each time that it does."""
        return self.backend.large_log()

    @repeated
    async def mark_bound(self) -> None:
        """Remember that this catalog has a storage root from now on."""
        async with self.writing() as connection:
            bound = update(tables.kv).where(tables.kv.c.name == "root").values(value="bound")
            await connection.execute(bound)

    @repeated
    async def check_writable(self) -> None:
        """Write a row as it is. Raises: CatalogUnavailable, which says why it cannot be written."""
        same = update(tables.kv).where(tables.kv.c.name == "root").values(value=tables.kv.c.value)
        async with self.writing(inline=True) as connection:
            await connection.execute(same)
        self.backend.check_room()
        self.condition.takes_writes = True
        self._wrote_at = time.monotonic()


@asynccontextmanager
async def open_database(
    where: Address | str,
    *,
    create: bool,
    migrate: bool,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    even_if_moved: bool = False,
    watch: CatalogWatch = NOBODY,
) -> AsyncIterator[Database]:
    """The catalog there, made first where `create` is true.

    One of an older schema is copied and brought up to date where `migrate` is true. Another process that
    writes is waited for, `busy_timeout_s` at most.

    Raises: NoCatalog, CatalogUnavailable, CatalogDamaged, CatalogTooNew, CatalogTooOld, CatalogObsolete,
    CatalogMoved unless it may be opened `even_if_moved`.
    """
    async with _connected(Address.of(where), busy_timeout_s) as backend:
        if await backend.exists() or create:
            with backend.condition.watched():
                await backend.prepare()
        await _check_schema(backend, create=create, even_if_moved=even_if_moved)
        database = Database(backend, watch)
        await database.bring_up_to_date(migrate=migrate)
        yield database


@asynccontextmanager
async def open_to_read(
    where: Address | str, *, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> AsyncIterator[Database]:
    """The catalog there as it is, of whatever schema; nothing is written.

    Raises: NoCatalog, CatalogUnavailable, CatalogDamaged, CatalogObsolete, CatalogMoved.
    """
    async with _connected(Address.of(where), busy_timeout_s) as backend:
        await _check_schema(backend, create=False)
        yield Database(backend)


async def is_catalog(where: Address | str) -> bool:
    """Whether a catalog is there. Raises: CatalogUnavailable where nobody can say."""
    address = Address.of(where)
    if address.is_file:
        return has_catalog(address.path)
    async with _connected(address, BUSY_TIMEOUT_S) as backend:
        return await backend.exists()


async def check_makeable(where: Address | str) -> None:
    """Make a catalog in an empty database of a server, and take it back at once.

    Raises: CatalogUnavailable, which says why a worker could not make it.
    """
    async with _connected(Address.of(where), BUSY_TIMEOUT_S) as backend:
        with backend.condition.watched():
            async with backend.migrating() as connection:
                if await connection.run_sync(schema.read) is not None:
                    return  # a worker has just made it
                trial = await connection.begin_nested()
                await connection.run_sync(schema.check_free, backend.condition.name)
                await backend.make_way(connection)
                await connection.run_sync(schema.upgrade)
                await trial.rollback()


async def pending_migration(database: Database) -> str | None:
    """What has to be done before this program can work with the catalog; None: nothing.

    Raises: CatalogUnavailable.
    """
    async with database.reading() as connection:
        found = await connection.run_sync(schema.read)
    return schema.pending(str(found), database.backend.migrated_by)


async def schema_of(database: Database) -> str:
    """The catalog's schema, which another version may have made. Raises: CatalogUnavailable."""
    async with database.reading() as connection:
        return str(await connection.run_sync(schema.read))


@dataclass(frozen=True)
class CatalogVersions:
    """The versions of a catalog: of its database, such as `PostgreSQL 16.2`, and of its schema."""

    database: str
    schema: str


async def versions_of(database: Database) -> CatalogVersions:
    """The versions of what holds the catalog, for people. Raises: CatalogUnavailable."""
    async with database.reading() as connection:
        found = str(await connection.run_sync(schema.read))
        dialect = connection.dialect
    numbers = ".".join(map(str, dialect.server_version_info or ()))
    return CatalogVersions(f"{_NAMES[dialect.name]} {numbers}".strip(), found)


@asynccontextmanager
async def _connected(address: Address, busy_timeout_s: float) -> AsyncIterator[Backend]:
    backend = _backend_of(address, busy_timeout_s)
    try:
        yield backend
    finally:
        await backend.close()


def _backend_of(address: Address, busy_timeout_s: float) -> Backend:
    if address.is_file:
        from storage.catalog.sqlite import SqliteBackend

        return SqliteBackend(address, busy_timeout_s)
    from storage.catalog.postgres import PostgresBackend  # with its driver: 270 ms and 49 MB

    return PostgresBackend(address)


async def _check_schema(backend: Backend, *, create: bool, even_if_moved: bool = False) -> None:
    """Refuse what is no catalog, or not the one any more, before anything is written to it.

    Raises: NoCatalog unless one may be made, CatalogUnfit, CatalogObsolete, CatalogMoved.
    """
    name = backend.condition.name
    if not await backend.exists() and not create:
        raise NoCatalog(name)
    with backend.condition.watched():
        async with backend.reading() as connection:
            found = await connection.run_sync(schema.read)
            if found is not None:
                schema.check_ours(found, name)
            if found is not None and not schema.is_obsolete(found) and not even_if_moved:
                await check_not_moved(connection, name)
    if found is None and not create:
        raise NoCatalog(name)
    if found is not None and schema.is_obsolete(found):
        raise CatalogObsolete(
            f"The catalog {name} was written by a development version (its schema is {found}), and this "
            "version cannot read it: move it away, with the files beside it that begin with its name, and "
            "run `media rebuild`, which makes a new one from the originals."
        )


async def check_schema(database: Database) -> None:
    """Raises: CatalogTooNew when the schema is not this program's (any more), CatalogUnavailable."""
    async with database.reading() as connection:
        schema.check_newest(await connection.run_sync(schema.read))


async def identity(database: Database) -> tuple[str, bool]:
    """The catalog's own UUID, and whether it is new, that is: has never been bound to a root."""
    async with database.reading() as connection:
        found = {row.name: row.value for row in await connection.execute(select(tables.kv))}
    return found["id"], found["root"] == "new"
