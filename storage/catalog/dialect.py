"""What is SQLite's own: the one place that another database would need its own version of.

The migrations and the triggers in them are SQLite's too.
"""

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, event, func, text
from sqlalchemy.dialects.sqlite import insert as insert  # the one that can update or ignore
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.catalog.connection import Connection as DriverConnection
from storage.catalog.connection import connect

_LOG_KEPT = 16 * 1024 * 1024
_WAL_TRIES = 100
_WAL_PAUSE_S = 0.05

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
