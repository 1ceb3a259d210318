"""Quick reads of a catalog's file: compiled once, on connections that only read, one thread visit each."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from sqlalchemy.dialects import sqlite

from storage.catalog.address import Address
from storage.catalog.reading_queries import Query
from storage.catalog.sqlite_errors import FileCondition
from storage.errors import CatalogDamaged, CatalogUnavailable
from storage.threads import in_thread

_AT_ONCE = 4  # questions, each on a connection of its own: their threads share one interpreter
_BUSY_S = 10.0
_DIALECT = sqlite.dialect(paramstyle="named")

Row = dict[str, Any]
Compiled = tuple[str, Mapping[str, Any]]
"""The text of a query, and the parameters that are always the same."""


class FileSource:
    """A catalog's file, read by up to four threads at once."""

    lag_s = None

    def __init__(self, condition: FileCondition) -> None:
        self._condition = condition
        self._uri = f"file:{quote(str(condition.file))}?mode=ro"
        self._idle: deque[sqlite3.Connection] = deque()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._compiled: dict[Query, Compiled] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, address: Address) -> AsyncIterator["FileSource"]:
        """The file there, which is a catalog."""
        condition = FileCondition(address.path)
        condition.opened()
        source = cls(condition)
        try:
            yield source
        finally:
            for connection in source._idle:
                connection.close()

    async def ask(self, query: Query, values: Mapping[str, Any]) -> list[Row]:
        """The rows of a query. Raises: CatalogUnavailable, CatalogDamaged."""
        sql, constants = self._compiled.get(query) or self._compile(query)
        with self._condition.watched():
            async with self._turns:
                return await in_thread(self._read, sql, {**constants, **values})

    async def ask_newest(self, query: Query, values: Mapping[str, Any]) -> list[Row]:
        """The same: there is one file."""
        return await self.ask(query, values)

    def met(self, error: CatalogDamaged) -> None:
        """Remember that the file is damaged."""
        self._condition.met(error)

    def _compile(self, query: Query) -> Compiled:
        compiled = query.compile(dialect=_DIALECT)
        self._compiled[query] = str(compiled), compiled.params
        return self._compiled[query]

    def _read(self, sql: str, values: Mapping[str, Any]) -> list[Row]:
        if exchanged := self._condition.exchanged():
            raise CatalogUnavailable(exchanged)
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            cursor = connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        except BaseException:
            connection.close()  # a new one may find the file in order
            raise
        self._idle.append(connection)
        return rows

    def _connect(self) -> sqlite3.Connection:
        opened = sqlite3.connect(
            self._uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        opened.execute("PRAGMA query_only=ON").close()
        return opened
