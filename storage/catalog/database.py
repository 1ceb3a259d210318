"""The catalog's file: opened, migrated and maintained here, and every transaction begun here."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.catalog import dialect, schema, tables
from storage.catalog.condition import LEAST_ROOM, Condition
from storage.catalog.copying import copy_before
from storage.catalog.dialect import MIB, FileRoom, find_damage
from storage.catalog.place import check_local
from storage.errors import CatalogObsolete, CatalogUnavailable, NoCatalog
from storage.paths import has_catalog
from storage.threads import in_thread

BUSY_TIMEOUT_S = 10.0
CHECK_AGAIN_S = 300.0  # of a damaged file: it may have been the memory, or another disk's fault
WRITE_AGAIN_S = 30.0  # of a catalog in which nobody may have written for long
_CHECK_S = 5.0
LARGE_LOG = 64 * MIB
LARGE_LOG_WARNING = (
    f"the log beside the catalog is larger than {LARGE_LOG // MIB} MiB: another process keeps a read "
    "transaction open (a database browser, a backup that hangs); end it, and the log shrinks by itself"
)
_FREE_KEPT = 1024  # pages that will be used again soon
_REWRITE_AGAIN_S = 3600.0


@dataclass(frozen=True)
class Migrated:
    """A catalog that was brought from one schema to another, and the copy of it as it was before."""

    before: str
    after: str
    copy: Path


class Database:
    """Transactions on one catalog: readers side by side, writers of this process one after another."""

    migrated: Migrated | None = None

    def __init__(self, engine: AsyncEngine, condition: Condition) -> None:
        self._engine = engine
        self.condition = condition
        # SQLite's own busy wait polls and is unfair; within a process an ordinary queue is neither.
        self._writers = asyncio.Lock()
        self._reported_log = False
        self._checked_at = self._wrote_at = self._rewrite_at = float("-inf")

    async def bring_up_to_date(self, *, migrate: bool) -> None:
        """Make the tables of a new catalog, or copy and migrate one of an older schema where that is allowed.

        Raises: CatalogUnavailable, CatalogDamaged, CatalogTooNew, CatalogTooOld.
        """
        with self.condition.watched():
            await dialect.use_wal(self._engine)
        async with self.writing() as connection:
            found, newest = await connection.run_sync(schema.read), schema.newest()
            if found not in (None, newest):
                schema.check_known(found, migrate=migrate)
                copy = await in_thread(copy_before, self.condition.file, newest)
                self.migrated = Migrated(str(found), newest, copy)
            if found != newest:
                await connection.run_sync(schema.upgrade)
            if found is None:
                rows = [{"name": "id", "value": str(uuid4())}, {"name": "root", "value": "new"}]
                await connection.execute(insert(tables.kv), rows)
        self.condition.opened()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one moment of the catalog. Raises: CatalogUnavailable, CatalogDamaged."""
        with self.condition.watched():
            async with self._engine.connect() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def writing(
        self, *, inline: bool = False, relaxed_durability: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds the write lock from its start; `inline` if it reads few rows, by key.

        With `relaxed_durability` a power cut may undo it, until the next ordinary commit. Other processes see
        it at once, so it suits what matters only as long as they live.

        Raises: CatalogUnavailable, CatalogDamaged.
        """
        options = {"writes": True, "inline": inline, "relaxed_durability": relaxed_durability}
        with self.condition.watched():
            if exchanged := self.condition.exchanged():
                raise CatalogUnavailable(exchanged)
            async with self._writers, self._engine.connect() as connection:
                await connection.execution_options(**options)
                async with connection.begin():
                    yield connection

    async def problem(self) -> str | None:
        """What is wrong with the catalog as a whole; None where everything that was tried worked.

        Damage is reported until a check of the whole file finds none. Raises: CatalogUnavailable.
        """
        if exchanged := self.condition.exchanged():
            return exchanged
        async with self.reading() as connection:
            await connection.execute(select(1))
        if self.condition.damage is not None and time.monotonic() - self._checked_at > CHECK_AGAIN_S:
            if await find_damage(self.condition.file, _CHECK_S) == []:
                self.condition.damage = None
            self._checked_at = time.monotonic()
        if not self.condition.takes_writes or time.monotonic() - self._wrote_at > WRITE_AGAIN_S:
            await self.check_writable()
        return self.condition.damage

    async def give_back(self) -> int:
        """Give some unused pages back to the disk; returns how many bytes, if the file was rewritten.

        A file that was made before this was possible is rewritten once, in a quiet moment, where little is
        in it and much is free. Raises: CatalogUnavailable.
        """
        room = await self.room()
        if room.gives_back:
            if room.free > _FREE_KEPT:
                # As a script, and alone: a statement without columns otherwise ends after its first step.
                await self._run(dialect.CUT_OFF)
            return 0
        if not room.is_worth_a_rewrite or not room.is_small or time.monotonic() < self._rewrite_at:
            return 0
        if await self._is_busy() or not self._has_room_for(room.used_bytes):
            return 0
        self._rewrite_at = time.monotonic() + _REWRITE_AGAIN_S
        await self._run(dialect.REWRITE)
        return room.free_bytes

    async def mark_bound(self) -> None:
        """Remember that this catalog has a storage root from now on."""
        async with self.writing() as connection:
            bound = update(tables.kv).where(tables.kv.c.name == "root").values(value="bound")
            await connection.execute(bound)

    async def room(self) -> FileRoom:
        """How much of the file is used. Raises: CatalogUnavailable."""
        async with self.reading() as connection:
            return await dialect.read_room(connection)

    async def _is_busy(self) -> bool:
        states = ("queued", "processing", "deleting")
        waiting = select(tables.uploads.c.id).where(tables.uploads.c.state.in_(states)).limit(1)
        async with self.reading() as connection:
            return (await connection.execute(waiting)).first() is not None

    def _has_room_for(self, used: int) -> bool:
        """The log takes all that is written anew, before the file becomes smaller."""
        with suppress(OSError):
            return shutil.disk_usage(self.condition.file.parent).free > 2 * used + LEAST_ROOM
        return False

    async def _run(self, script: str) -> None:
        with self.condition.watched():
            if exchanged := self.condition.exchanged():
                raise CatalogUnavailable(exchanged)
            async with self._writers, self._engine.connect() as connection:
                await dialect.run_script(connection, script)

    def large_log(self) -> str | None:
        """A warning where the log beside the catalog has become large, once each time that it does."""
        large = log_bytes(self.condition.file) > LARGE_LOG
        reported, self._reported_log = self._reported_log, large
        return LARGE_LOG_WARNING if large and not reported else None

    async def check_writable(self) -> None:
        """Write a row as it is. Raises: CatalogUnavailable, which says why it cannot be written."""
        same = update(tables.kv).where(tables.kv.c.name == "root").values(value=tables.kv.c.value)
        async with self.writing(inline=True) as connection:
            await connection.execute(same)
        self.condition.check_room()  # a little still finds some where more does not
        self.condition.takes_writes = True
        self._wrote_at = time.monotonic()


@asynccontextmanager
async def open_database(
    url: str, *, create: bool, migrate: bool, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> AsyncIterator[Database]:
    """The catalog at `url`, made first where `create` is true.

    One of an older schema is copied and brought up to date where `migrate` is true. Another process that
    writes is waited for, `busy_timeout_s` at most.

    Raises: NoCatalog, CatalogUnavailable, CatalogDamaged, CatalogTooNew, CatalogTooOld, CatalogObsolete.
    """
    path = _path_in(url)
    if has_catalog(path) or create:
        with Condition(path).watched():
            path.resolve().parent.mkdir(parents=True, exist_ok=True)
        check_local(path)
    async with open_to_read(url, create=create, busy_timeout_s=busy_timeout_s) as database:
        await database.bring_up_to_date(migrate=migrate)
        yield database


@asynccontextmanager
async def open_to_read(
    url: str, *, create: bool = False, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> AsyncIterator[Database]:
    """The catalog at `url` as it is, of whatever schema; nothing is written.

    Raises: NoCatalog unless one may be made, CatalogUnavailable, CatalogDamaged, CatalogObsolete.
    """
    path = _path_in(url)
    if not has_catalog(path) and not create:
        raise NoCatalog(path)
    condition = Condition(path)
    engine = dialect.new_engine(url, condition.file, busy_timeout_s)
    try:
        with condition.watched():
            await _check_schema(engine, path, create=create)
        yield Database(engine, condition)
    finally:
        await engine.dispose()


def _path_in(url: str) -> Path:
    # The path as it stands there: whether SQLAlchemy takes %20 for a space depends on its version.
    return Path(url.partition(":///")[2])


async def _check_schema(engine: AsyncEngine, path: Path, *, create: bool) -> None:
    """Refuse a file that is no catalog, or one of a development version, before anything is written to it.

    Raises: NoCatalog unless one may be made, CatalogObsolete.
    """
    async with engine.connect() as connection, connection.begin():
        found = await connection.run_sync(schema.read)
    if found is None and not create:
        raise NoCatalog(path)
    if found is not None and schema.is_obsolete(found):
        raise CatalogObsolete(
            f"The catalog {path} was written by a development version (its schema is {found}), and this "
            "version cannot read it: move it away, with the files beside it that begin with its name, and "
            "run `media rebuild`, which makes a new one from the originals."
        )


def log_bytes(path: Path) -> int:
    """The size of the log beside the catalog's file `path`, which is no link."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


async def check_schema(database: Database) -> None:
    """Raises: CatalogTooNew when the schema is not this program's (any more), CatalogUnavailable."""
    async with database.reading() as connection:
        schema.check_newest(await connection.run_sync(schema.read))


async def identity(database: Database) -> tuple[str, bool]:
    """The catalog's own UUID, and whether it is new, that is: has never been bound to a root."""
    async with database.reading() as connection:
        found = {row.name: row.value for row in await connection.execute(select(tables.kv))}
    return found["id"], found["root"] == "new"
