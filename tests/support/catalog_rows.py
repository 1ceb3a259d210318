"""What a workplace's catalog is in, read without any code of ours: a file of SQLite, or Postgres."""

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg

Row = dict[str, Any]
NoTables = (sqlite3.OperationalError, asyncpg.UndefinedTableError)
"""What is raised where no worker has made the catalog yet."""
_GONE = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)


class CatalogRows(Protocol):
    """What the tests see of it."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The variables of a worker that uses it."""

    def rows(self, query: str) -> list[Row]:
        """What it answers; raises one of `NoTables`."""

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else can write meanwhile."""

    def close(self) -> None:
        """End the connections."""


class SqliteRows:
    """A file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def settings(self) -> Mapping[str, str]:
        return {"MEDIA_CATALOG_URL": f"sqlite+aiosqlite:///{self._path}"}

    def rows(self, query: str) -> list[Row]:
        return rows_of(self._path, query)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=10)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def close(self) -> None:
        """No connection stays open."""


def rows_of(path: Path, query: str) -> list[Row]:
    """What a file of SQLite answers."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


class PostgresRows:
    """A database at `url`; workers reach it at `workers_url`, if something is in between."""

    def __init__(self, url: str, workers_url: str | None = None) -> None:
        self._url = url.replace("+asyncpg", "")
        self._workers_url = workers_url or url
        self._runner = asyncio.Runner()
        self._connection: Any = None

    @property
    def settings(self) -> Mapping[str, str]:
        return {"MEDIA_CATALOG_URL": self._workers_url}

    def rows(self, query: str) -> list[Row]:
        try:
            return self._runner.run(self._ask(query))
        except _GONE:  # with a server that was killed since then
            self._connection = None
            return self._runner.run(self._ask(query))

    async def _ask(self, query: str) -> list[Row]:
        if self._connection is None:
            self._connection = await asyncpg.connect(self._url)
        return [dict(row) for row in await self._connection.fetch(query)]

    @contextmanager
    def locked(self) -> Iterator[None]:
        other = self._runner.run(self._lock())
        try:
            yield
        finally:
            self._runner.run(other.close())

    async def _lock(self) -> Any:
        other = await asyncpg.connect(self._url)
        await other.execute("BEGIN; LOCK TABLE uploads IN EXCLUSIVE MODE")
        return other

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._runner.close()
