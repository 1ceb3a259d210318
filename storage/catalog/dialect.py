"""What is SQLite's own: the one place that another database would need its own version of.

The migrations and the triggers in them are SQLite's too.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, event, func, text
from sqlalchemy.dialects.sqlite import insert as insert  # the one that can update or ignore
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.catalog.connection import Connection as DriverConnection
from storage.catalog.connection import connect
from storage.threads import in_thread

MIB = 1024 * 1024
_LOG_KEPT = 16 * MIB
_WAL_TRIES = 100
_WAL_PAUSE_S = 0.05
_CHECK_STEPS = 10_000  # of SQLite's machine, between two readings of the clock
_MOST_PROBLEMS = 5  # that are reported
MUCH_FREE = 64 * MIB
SMALL = 64 * MIB  # 3 s on a slow machine: others wait as long
_INCREMENTAL = 2  # what SQLite calls the mode of a file that can give pages back
CUT_OFF = "PRAGMA incremental_vacuum(2000)"
# In one transaction of the log. Aside is memory: the folder of temporary files may be small.
REWRITE = f"PRAGMA temp_store=MEMORY; PRAGMA auto_vacuum={_INCREMENTAL}; VACUUM; PRAGMA temp_store=DEFAULT"

DriverError = sqlite3.DatabaseError

# SQLite's own table of the numbers that it gave; a row comes with a table's first row.
GIVEN_SEQ = text("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
RAISE_SEQ = text("UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = 'outbox'")
FIRST_SEQ = text("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', :seq)")

# What the triggers add up, row by row.
COUNTED = text("""
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


class Fault(Enum):
    """What the driver means by an error."""

    DAMAGED = "damaged"
    READ_ONLY = "read only"
    NOT_OPENED = "not opened"
    FULL = "full"
    DISK = "disk"
    OTHER = "other"


_FAULTS = {
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Fault.NOT_OPENED,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_IOERR: Fault.DISK,
}


def fault_of(error: BaseException) -> Fault:
    """What the driver's `error` means."""
    if "Could not decode to UTF-8" in str(error):
        return Fault.DAMAGED
    return _FAULTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, Fault.OTHER)  # its primary code


def joined(column: ColumnElement[str]) -> ColumnElement[str]:
    """All values of `column` as one text, a line each."""
    return func.group_concat(column, "\n")


def new_engine(url: str, file: Path, busy_timeout_s: float) -> AsyncEngine:
    """An engine on the catalog in `file`, whose transactions begin as their execution options say.

    `writes`: with the write lock; `inline` and `relaxed_durability`: as `Database.writing` says;
    `autocommits`: not at all.
    """
    options = {"timeout": busy_timeout_s, "async_creator_fn": connect}
    address = make_url(url).set(database=str(file))
    engine = create_async_engine(address, connect_args=options, pool_size=4)
    event.listen(engine.sync_engine, "connect", _tune)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


async def run_script(connection: AsyncConnection, script: str) -> None:
    """Run statements that no transaction may be around."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, DriverConnection)
    await driver.in_thread(lambda opened: opened.executescript(script).close())


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


def _tune(connection: Any, _record: Any) -> None:  # noqa: ANN401 (a driver's connection)
    connection.isolation_level = None  # transactions begin where `_begin` says, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")  # NORMAL may lose committed rows when the power goes
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA journal_size_limit={_LOG_KEPT}")  # once a reader is gone that made it grow
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    driver = connection.connection.driver_connection
    inline = driver if options.get("inline") and isinstance(driver, DriverConnection) else None
    relaxed = bool(options.get("relaxed_durability"))
    begun = inline is not None and inline.begin_inline(relaxed_durability=relaxed)
    if not begun and not options.get("autocommits"):
        # A read that turns into a write fails at once, whatever the busy timeout: say it beforehand.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")
    if inline is not None:
        inline.inline = True  # waiting for the lock and for the disk is left to the thread


# -- the file


@dataclass(frozen=True)
class FileRoom:
    """How much of a catalog's file is used, in pages of `page_size` bytes."""

    auto_vacuum: int
    page_size: int
    pages: int
    free: int

    @property
    def gives_back(self) -> bool:
        """Whether SQLite can cut pages that are free off, without rewriting all others."""
        return self.auto_vacuum == _INCREMENTAL

    @property
    def free_bytes(self) -> int:
        return self.free * self.page_size

    @property
    def used_bytes(self) -> int:
        return (self.pages - self.free) * self.page_size

    @property
    def is_worth_a_rewrite(self) -> bool:
        """Whether most of the file, and much, is free for good."""
        return not self.gives_back and self.free_bytes > max(MUCH_FREE, self.used_bytes)

    @property
    def is_small(self) -> bool:
        """Whether a rewrite takes a few seconds, for which others may wait, and little memory."""
        return self.used_bytes <= SMALL


async def read_room(connection: AsyncConnection) -> FileRoom:
    """How much of the catalog's file is used."""
    names = ("auto_vacuum", "page_size", "page_count", "freelist_count")
    return FileRoom(*[(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in names])


def back_up(path: Path, target: Path) -> None:
    """Copy one moment of the catalog at `path`, while others read and write. Raises: DriverError."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


async def find_damage(path: Path, within_s: float) -> Sequence[str] | None:
    """What SQLite complains of in the file `path`; None when it was not through with it in time.

    Indexes are not compared with their rows: that takes many times as long. Nothing is written.
    """
    return await in_thread(_find, path, within_s)


def _find(path: Path, within_s: float) -> Sequence[str] | None:
    until = time.monotonic() + within_s
    address = f"file:{quote(str(path))}?mode=rw"  # read-only, it could not join those who write
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=within_s)) as opened:
            opened.execute("PRAGMA query_only=ON")
            opened.set_progress_handler(lambda: time.monotonic() > until, _CHECK_STEPS)
            found = [str(row[0]) for row in opened.execute(f"PRAGMA quick_check({_MOST_PROBLEMS})")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        return [str(error)]
    return [] if found == ["ok"] else found
