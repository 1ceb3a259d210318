"""SQLite connections that hand a whole statement to their thread, instead of each of its four parts."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from typing import Any

import aiosqlite

_LOG_PAGES = 1000  # SQLite's own default

Parameters = Any
Description = Sequence[Sequence[Any]] | None


class StatementCursor:
    """Runs one statement at a time, reads all its rows and closes it, in one call of the thread."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Description = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "StatementCursor":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def execute(self, sql: str, parameters: Parameters = ()) -> "StatementCursor":
        """Run a statement and keep its rows."""
        return await self._run(lambda cursor: cursor.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Parameters) -> "StatementCursor":
        """Run a statement with each of many parameters."""
        return await self._run(lambda cursor: cursor.executemany(sql, parameters))

    async def fetchall(self) -> list[Any]:
        """The rows, once."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Nothing is open any more."""

    async def _run(self, run: Callable[[sqlite3.Cursor], object]) -> "StatementCursor":
        found = await self._connection.in_thread(partial(_run, run))
        self.description, self.rowcount, self.lastrowid, self._rows = found
        return self


class Connection(aiosqlite.Connection):
    """An aiosqlite connection with such cursors, as SQLAlchemy uses it."""

    inline = False
    """Until the transaction ends statements run in the event loop: it has the lock, and reads few rows."""
    busy_timeout_ms = 0
    _is_idle = True  # no statement has run since the last transaction ended
    _only_reads = False  # the transaction: its begin and its end touch no file
    _has_relaxed_durability = False

    def __del__(self) -> None:
        # Whoever was cancelled while SQLAlchemy made it has left it: nobody else can end its thread then.
        if self._connection is not None and hasattr(self, "stop"):
            self.stop()

    def begin_inline(self, *, relaxed_durability: bool) -> bool:
        """Begin a writing transaction at once, in the event loop; returns False where another writer is busy.

        With `relaxed_durability` the commit neither waits for the disk nor moves the log into the file; the
        next ordinary commit, of whatever connection, does both.
        """
        if relaxed_durability:
            self._execute_inline("PRAGMA synchronous=NORMAL", "PRAGMA wal_autocheckpoint=0")
        self._has_relaxed_durability = relaxed_durability
        self._execute_inline("PRAGMA busy_timeout=0")
        try:
            self._execute_inline("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            self._restore_durability()
            return False
        finally:
            self._execute_inline(f"PRAGMA busy_timeout={self.busy_timeout_ms}")
        self._is_idle = False
        return True

    def begin_to_read(self) -> bool:
        """Begin a transaction that only reads, in the event loop; returns False where that fails."""
        try:
            self._execute_inline("BEGIN")
        except (sqlite3.Error, ValueError):  # it was closed
            return False
        self._is_idle, self._only_reads = False, True
        return True

    async def commit(self) -> None:
        """Commit, in the thread where that waits for the disk."""
        self.inline = False
        if self._only_reads:
            self._conn.commit()
            self._only_reads = False
        elif self._has_relaxed_durability:
            self._conn.commit()
            self._restore_durability()
        else:
            await super().commit()
        self._is_idle = True

    async def rollback(self) -> None:
        """Roll back if there is a transaction; a pool asks for it again after every commit."""
        self.inline = self._only_reads = False
        if not self._is_idle:
            await super().rollback()
            self._is_idle = True
        self._restore_durability()

    def _restore_durability(self) -> None:
        if self._has_relaxed_durability:
            self._execute_inline("PRAGMA synchronous=FULL", f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            self._has_relaxed_durability = False

    def _execute_inline(self, *statements: str) -> None:
        for statement in statements:
            self._conn.execute(statement).close()

    def cursor(self) -> StatementCursor:  # type: ignore[override]
        return StatementCursor(self)

    def run(self, text: str, values: Sequence[Any]) -> sqlite3.Cursor:
        """Run a statement in the event loop, while `inline`."""
        self._is_idle = False
        return self._conn.execute(text, values)

    def run_each(self, text: str, values: Sequence[Sequence[Any]]) -> sqlite3.Cursor:
        """Run a statement with each of these values, in the event loop, while `inline`."""
        self._is_idle = False
        return self._conn.executemany(text, values)

    async def in_thread(self, do: Callable[[sqlite3.Connection], Any]) -> Any:  # noqa: ANN401
        """Call `do` in the connection's thread, or in the event loop while `inline`; returns its result."""
        self._is_idle = False
        if self.inline:
            return do(self._conn)
        try:
            return await self._execute(do, self._conn)  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            self._only_reads = False  # the thread goes on with it, and the end has to wait for that
            raise


def connect(path: str, **options: Any) -> Connection:  # noqa: ANN401 (sqlite3's)
    """Returns a connection that still has to be awaited, with the options of `sqlite3.connect`."""
    connection = Connection(partial(sqlite3.connect, path, **options), iter_chunk_size=64)
    connection.busy_timeout_ms = int(options.get("timeout", 0) * 1000)
    thread = connection if isinstance(connection, Thread) else connection._thread  # before and since 0.22
    thread.daemon = True  # one that is left over after a failed start must not keep the process alive
    return connection


def _run(run: Callable[[sqlite3.Cursor], object], connection: sqlite3.Connection) -> tuple[Any, ...]:
    cursor = connection.cursor()
    try:
        run(cursor)
        rows = cursor.fetchall() if cursor.description else []
        return cursor.description, cursor.rowcount, cursor.lastrowid, rows
    finally:
        cursor.close()
