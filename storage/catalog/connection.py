"""SQLite connections that visit their thread once for a statement, and not for each of its four parts."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from typing import Any

import aiosqlite

_LOG_PAGES = 1000  # SQLite's own default

Parameters = Any
Description = Sequence[Sequence[Any]] | None


class Cursor:
    """One statement at a time: run, read to its end and closed in a single visit."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Description = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "Cursor":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def execute(self, sql: str, parameters: Parameters = ()) -> "Cursor":
        """Run a statement and keep its rows."""
        return await self._visit(lambda cursor: cursor.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Parameters) -> "Cursor":
        """Run a statement with each of many parameters."""
        return await self._visit(lambda cursor: cursor.executemany(sql, parameters))

    async def fetchall(self) -> list[Any]:
        """The rows, once."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Nothing is open any more."""

    async def _visit(self, run: Callable[[sqlite3.Cursor], object]) -> "Cursor":
        found = await self._connection.visit(partial(_run, run))
        self.description, self.rowcount, self.lastrowid, self._rows = found
        return self


class Connection(aiosqlite.Connection):
    """An aiosqlite connection with such cursors, as SQLAlchemy uses it."""

    quick = False
    """Until the transaction ends its statements run here and now: it has the lock and looks up few rows."""
    patience_ms = 0
    _settled = True
    _light = False

    def begin_now(self, *, light: bool) -> bool:
        """Begin to write, here and now, if nobody else is writing; whether it could.

        A `light` transaction does not wait for the disk when it ends, nor does it tidy the log up: the
        next that is not light does both for it.
        """
        if light:
            self._run("PRAGMA synchronous=NORMAL", "PRAGMA wal_autocheckpoint=0")
        self._light = light
        self._run("PRAGMA busy_timeout=0")
        try:
            self._run("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            self._weigh()
            return False
        finally:
            self._run(f"PRAGMA busy_timeout={self.patience_ms}")
        self._settled = False
        return True

    async def commit(self) -> None:
        """End the transaction; in the thread if this waits for the disk."""
        self.quick = False
        if self._light:
            self._conn.commit()
            self._weigh()
        else:
            await super().commit()
        self._settled = True

    async def rollback(self) -> None:
        """End the transaction if there is one; a pool asks for it again after every commit."""
        self.quick = False
        if not self._settled:
            await super().rollback()
            self._settled = True
        self._weigh()

    def _weigh(self) -> None:
        if self._light:
            self._run("PRAGMA synchronous=FULL", f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            self._light = False

    def _run(self, *statements: str) -> None:
        for statement in statements:
            self._conn.execute(statement).close()

    def cursor(self) -> Cursor:  # type: ignore[override]
        return Cursor(self)

    async def visit(self, do: Callable[[sqlite3.Connection], Any]) -> Any:  # noqa: ANN401
        """What `do` gives, called in the connection's thread or, if that is quicker, in this one."""
        self._settled = False
        if self.quick:
            return do(self._conn)
        return await self._execute(do, self._conn)  # type: ignore[no-untyped-call]


def connect(path: str, **options: Any) -> Connection:  # noqa: ANN401 (sqlite3's)
    """A connection to be awaited, with the options of `sqlite3.connect`."""
    connection = Connection(partial(sqlite3.connect, path, **options), iter_chunk_size=64)
    connection.patience_ms = int(options.get("timeout", 0) * 1000)
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
