"""A catalog in a file of SQLite: its engine, its transactions, its statements, and the upkeep of the file."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, event, select, text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from storage.catalog import sqlite_file, tables
from storage.catalog.address import SQLITE, Address
from storage.catalog.clock import now_ms
from storage.catalog.connection import Connection as DriverConnection
from storage.catalog.connection import connect
from storage.catalog.copying import COPY, copy_before, copy_file
from storage.catalog.place import check_local
from storage.catalog.sqlalchemy_parts import AsyncConnection, AsyncEngine, create_async_engine
from storage.catalog.sqlite_errors import FileCondition
from storage.catalog.sqlite_file import LARGE_LOG, LARGE_LOG_WARNING, MIB, FileRoom, find_damage, log_bytes
from storage.catalog.statements import INLINE
from storage.catalog.tables import SEALED
from storage.errors import CatalogUnavailable, CopyDamaged, writes_copies
from storage.paths import has_catalog
from storage.threads import cancellation, in_thread

T = TypeVar("T")

CHECK_AGAIN_S = 300.0  # of a damaged file: it may have been the memory, or another disk's fault
_CHECK_S = 5.0
_FREE_KEPT = 1024  # pages that will be used again soon
_REWRITE_AGAIN_S = 3600.0
_LOG_KEPT = 16 * MIB
_CACHE_KIB = 512  # of each connection, a quarter of the usual; behind it is the system's, which all share
_WAL_TRIES = 100
_WAL_PAUSE_S = 0.05

# SQLite's own table of the numbers that it gave; a row comes with a table's first row.
_GIVEN_SEQ = text("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
_RAISE_SEQ = text("UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = 'outbox'")
_FIRST_SEQ = text("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', :seq)")

_COUNTED = text("""
    SELECT 'upload', iif(state IN ('queued', 'processing'), 'waiting', state), coalesce(error_code, ''), 0,
        count(*), 0 FROM uploads GROUP BY 2, 3
    UNION ALL
    SELECT 'original', coalesce(format, ''), '', 0, count(*), sum(bytes)
    FROM uploads WHERE bytes IS NOT NULL GROUP BY 2
    UNION ALL
    SELECT iif(superseded_ms IS NULL, 'variant', 'superseded'), name, substr(key, instr(key, '.') + 1),
        made_ms / 86400000, count(*), sum(bytes) FROM variants GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT 'dead_letter', code, '', 0, count(*), sum(length(body)) FROM dead_letters GROUP BY 2
""")
_NEW_TOTALS = insert(tables.totals)
_ADDING = _NEW_TOTALS.on_conflict_do_update(
    set_={name: tables.totals.c[name] + _NEW_TOTALS.excluded[name] for name in ("files", "bytes")}
)


FILE_MODE = 0o640
_VERBS = ("INSERT", "UPDATE", "DELETE")
_SEALS = {f"sealed_{table}_{verb}": f"{verb} ON {table}" for table in SEALED for verb in _VERBS}
# The row that is written as it is, to find out whether the catalog can be written.
_SEALS["sealed_root"] = "UPDATE ON kv WHEN OLD.name = 'root'"


class SqliteBackend:
    """Readers side by side, writers of this process one after another."""

    locks_rows = False
    joins_laterally = False
    clock_error_ms = 0
    migrated_by = (
        "media migrate, or the next start of a worker of this version, copies the catalog and makes it"
    )
    counted = _COUNTED
    adding = _ADDING

    def __init__(self, address: Address, busy_timeout_s: float) -> None:
        self.condition = FileCondition(address.path)
        self.engine = _new_engine(address.url, self.condition.file, busy_timeout_s)
        # SQLite's own busy wait polls and is unfair; within a process an ordinary queue is neither.
        self._writers = asyncio.Lock()
        # To take one of the pool and give it back costs more than a small transaction.
        self._writer: AsyncConnection | None = None
        self._options: dict[str, bool] = {}  # of `_writer`
        self._is_closed = False
        self._reported_log = False
        self._checked_at = self._rewrite_at = float("-inf")

    async def exists(self) -> bool:
        """Whether a file lies there. Raises: CatalogUnavailable where nobody can say."""
        return has_catalog(self.condition.path)

    async def prepare(self) -> None:
        """Make the folder and the file. Raises: FileSystemUnfit."""
        path = self.condition.path
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        check_local(path)
        _make_file(self.condition.file)

    @asynccontextmanager
    async def reading(self, *, patient: bool = False, inline: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one moment of the catalog; every statement may take its time."""
        async with self.engine.connect() as connection:
            if inline:
                await connection.execution_options(inline=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def writing(self, *, inline: bool, relaxed_durability: bool) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds the write lock from its start."""
        options = {"writes": True, "inline": inline, "relaxed_durability": relaxed_durability}
        async with self._alone() as connection:
            if options != self._options:
                await connection.execution_options(**options)
                self._options = options
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """A writing transaction: while it lasts, nobody else migrates."""
        await use_wal(self.engine)
        async with self.writing(inline=False, relaxed_durability=False) as connection:
            yield connection
        self.condition.opened()

    async def make_way(self, connection: AsyncConnection) -> None:
        """Everything that a catalog has in a file goes with its tables."""

    async def copy_before(self, schema: str) -> Path | None:
        """A copy of the file beside it, as it is before the migration to `schema`."""
        return await in_thread(copy_before, self.condition.file, schema)

    async def copy_to(self, folder: Path, read: Callable[[AsyncConnection], Awaitable[T]]) -> tuple[Path, T]:
        """A file that SQLite opens. Raises: CopyRefused, CatalogUnavailable, CatalogDamaged."""
        copy = folder / COPY
        try:
            with writes_copies(folder):
                await in_thread(copy_file, self.condition.file, copy, stopped=cancellation())
        except sqlite3.DatabaseError as error:
            raise self.condition.named(error) from error
        return copy, await read_file(copy, read)

    async def share(self, connection: AsyncConnection, name: str) -> None:
        """Whoever writes is alone."""

    async def exclude(self, connection: AsyncConnection, name: str) -> None:
        """Whoever writes is alone."""

    def now_ms(self) -> int:
        """This moment in ms since 1970: everybody is on this host."""
        return now_ms()

    async def given_seq(self, connection: AsyncConnection) -> int:
        """The greatest `seq` that the outbox has given, 0 before the first."""
        return int((await connection.execute(_GIVEN_SEQ)).scalar_one_or_none() or 0)

    async def read_in_order(self, connection: AsyncConnection) -> None:
        """Nothing: it always does."""

    async def give_above(self, connection: AsyncConnection, seq: int) -> None:
        """Have the outbox give no `seq` from now on that is not above that one."""
        raised = await connection.execute(_RAISE_SEQ, {"seq": seq})
        if not raised.rowcount:
            await connection.execute(_FIRST_SEQ, {"seq": seq})

    def stay_above(self, newest: Callable[[], Awaitable[int]]) -> None:
        """A file that was away has everything that was committed."""

    async def insert(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Sequence[object]]
    ) -> None:
        """Insert them by one statement, which the driver runs for each."""
        statement = str(insert(table).compile(dialect=connection.dialect))
        await connection.exec_driver_sql(statement, [tuple(row) for row in rows])

    async def give_numbers_above_rows(self, connection: AsyncConnection) -> None:
        """It numbers rows after those that are there."""

    def seal(self, reason: str) -> Sequence[str]:
        """Triggers that raise, of names that `unseal` knows."""
        text = reason.replace("'", "''")
        does = f"BEGIN SELECT RAISE(ABORT, '{text}'); END"
        return [
            *self.unseal(),
            *(f"CREATE TRIGGER {name} BEFORE {of} {does}" for name, of in _SEALS.items()),
        ]

    def unseal(self) -> Sequence[str]:
        """Without these triggers."""
        return [f"DROP TRIGGER IF EXISTS {name}" for name in _SEALS]

    def exchanged(self) -> str | None:
        """What to do where another file, or none, lies there by now: nobody would see what is written."""
        return self.condition.exchanged()

    async def check_damage(self) -> None:
        """Look through the whole file, now and then, once damage was met in it."""
        if self.condition.damage is not None and time.monotonic() - self._checked_at > CHECK_AGAIN_S:
            if await find_damage(self.condition.file, _CHECK_S) == []:
                self.condition.damage = None
            self._checked_at = time.monotonic()

    def check_room(self) -> None:
        """Raises: CatalogUnavailable: a little still finds room where more does not."""
        self.condition.check_room()

    async def compact(self) -> int:
        """Give some unused pages back to the disk; returns how many bytes, if the file was rewritten.

        A file that was made before this was possible is rewritten once, in a quiet moment, where little is
        in it and much is free. Raises: CatalogUnavailable.
        """
        room = await self.room()
        if room.gives_back:
            if room.free > _FREE_KEPT:
                # As a script, and alone: a statement without columns otherwise ends after its first step.
                await self._run(sqlite_file.CUT_OFF)
            return 0
        if not room.is_worth_a_rewrite or not room.is_small or time.monotonic() < self._rewrite_at:
            return 0
        if await self._is_busy() or not self.condition.has_room_for(room.used_bytes):
            return 0
        self._rewrite_at = time.monotonic() + _REWRITE_AGAIN_S
        await self._run(sqlite_file.REWRITE)
        return room.free_bytes

    def find_large_log(self) -> str | None:
        """A warning while the log beside the catalog is large."""
        return LARGE_LOG_WARNING if log_bytes(self.condition.file) > LARGE_LOG else None

    def large_log(self) -> str | None:
        """A warning where the log beside the catalog has become large, once each time that it does."""
        found = self.find_large_log()
        reported, self._reported_log = self._reported_log, found is not None
        return None if reported else found

    async def room(self) -> FileRoom:
        """How much of the file is used."""
        async with self.reading() as connection:
            return await sqlite_file.read_room(connection)

    async def close(self) -> None:
        """End all connections; whoever writes at the moment, or waits to, does after its transaction."""
        self._is_closed = True
        if not self._writers.locked():
            await self._leave_writer()
        await self.engine.dispose()

    async def _is_busy(self) -> bool:
        states = ("queued", "processing", "deleting")
        waiting = select(tables.uploads.c.id).where(tables.uploads.c.state.in_(states)).limit(1)
        async with self.reading() as connection:
            return (await connection.execute(waiting)).first() is not None

    async def _run(self, script: str) -> None:
        async with self._alone() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, DriverConnection)
            await driver.in_thread(lambda opened: opened.executescript(script).close())

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[AsyncConnection]:
        """The only connection of this process that writes. Raises: CatalogUnavailable (another file)."""
        if exchanged := self.condition.exchanged():
            raise CatalogUnavailable(exchanged)
        async with self._writers:
            if self._writer is None:
                self._writer = await self.engine.connect()
            try:
                yield self._writer
            except BaseException:
                await self._leave_writer()  # the pool knows what to do with one that met an error
                raise
            if self._is_closed:
                await self._leave_writer()

    async def _leave_writer(self) -> None:
        writer, self._writer, self._options = self._writer, None, {}
        if writer is not None:
            if self._is_closed:
                await writer.invalidate()  # its pool may be gone, and would keep it open
            await writer.close()


async def examine_file(path: Path) -> None:
    """Look through all of a copy. Raises: CopyDamaged."""
    if found := await in_thread(sqlite_file.find_all_damage, path, cancellation()):
        raise CopyDamaged(f"the copy {path} is damaged: {'; '.join(found)}")


async def read_file(path: Path, read: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """What `read` says of the copy in that file. Raises: CatalogUnavailable."""
    copy = SqliteBackend(Address(f"{SQLITE}{path}"), _CHECK_S)
    try:
        with copy.condition.watched():
            async with copy.reading() as connection:
                return await read(connection)
    finally:
        await copy.close()


def _new_engine(url: str, file: Path, busy_timeout_s: float) -> AsyncEngine:
    """An engine on the catalog in `file`, whose transactions begin as their execution options say.

    `writes`: with the write lock; `inline` and `relaxed_durability`: as `Database.writing` says;
    `autocommits`: not at all.
    """
    options = {"timeout": busy_timeout_s, "async_creator_fn": connect}
    address = make_url(url).set(database=str(file))
    engine = create_async_engine(address, connect_args=options, pool_size=4, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _tune)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _make_file(file: Path) -> None:
    """Make the file where there is none: metadata and dead letters are not everybody's to read.

    SQLite gives its log the mode of the file, and says what is wrong where none can be made.
    """
    with suppress(OSError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE))


async def use_wal(engine: AsyncEngine) -> None:
    """Have the file written by way of a log, beside which others read on."""
    # This pragma ignores the busy timeout: two workers that start at once on a new catalog collide here.
    for attempt in range(_WAL_TRIES):
        try:
            async with engine.connect() as connection:
                await connection.execution_options(autocommits=True)
                mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one()
                if mode != "wal":
                    # Before anything is in it: space that is not used any more can be given back later.
                    await connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
                    await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except DBAPIError as error:
            if "locked" not in str(error) or attempt == _WAL_TRIES - 1:
                raise
            await asyncio.sleep(_WAL_PAUSE_S)
        else:
            return


def _tune(connection: Any, record: Any) -> None:  # noqa: ANN401 (a driver's connection)
    record.info[INLINE] = connection.driver_connection
    connection.isolation_level = None  # transactions begin where `_begin` says, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")  # NORMAL may lose committed rows when the power goes
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    cursor.execute(f"PRAGMA journal_size_limit={_LOG_KEPT}")  # once a reader is gone that made it grow
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    driver = connection.connection.driver_connection
    assert isinstance(driver, DriverConnection)
    writes, inline = options.get("writes"), options.get("inline")
    begun = bool(options.get("autocommits"))
    if not begun and not writes:
        begun = driver.begin_to_read()
    elif inline:
        begun = driver.begin_inline(relaxed_durability=bool(options.get("relaxed_durability")))
    if not begun:
        # A read that turns into a write fails at once, whatever the busy timeout: say it beforehand.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    if inline:
        driver.inline = True  # waiting for the lock and for the disk is left to the thread
