"""The rows of a catalog in Postgres in one file, as the server writes and reads them itself (COPY).

It needs no program beside this one, and no more rights than a worker has. For each table a line of JSON with
its name and columns, then its rows, a line each, then a line with `\\.`; all of it compressed.
"""

import gzip
import os
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, inspect

from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import metadata, totals
from storage.errors import CopyDamaged, writes_copies
from storage.threads import in_thread

T = TypeVar("T")

_END = b"\\.\n"  # no row is written so
_LEVEL = 3
_PART = 256 * 1024  # bytes


async def write_rows(connection: AsyncConnection, path: Path) -> None:
    """Write all rows that the connection's transaction sees into a new file. Raises: CopyRefused."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    columns = await connection.run_sync(_columns)
    with writes_copies(path.parent), path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:

            async def write(part: bytes) -> None:
                with writes_copies(path.parent):
                    await in_thread(packed.write, part)

            for table, names in columns.items():
                await write(orjson.dumps({"table": table, "columns": names}) + b"\n")
                await driver.copy_from_table(table, columns=names, output=write, format="text")
                await write(_END)
        await in_thread(os.fsync, file.fileno())


def _columns(connection: Connection) -> Mapping[str, list[str]]:
    """The columns of each of our tables that is there, those first to which others refer."""
    found = inspect(connection)
    there = set(found.get_table_names())
    ours = [str(table.name) for table in metadata.sorted_tables if table is not totals]
    return {name: [one["name"] for one in found.get_columns(name)] for name in ours if name in there}


class RowsFile:
    """A file of rows, read table by table."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def count(self) -> Mapping[str, int]:
        """How many rows of each table are in it. Raises: CopyDamaged, OSError."""
        counts: dict[str, int] = {}
        with self._opened() as packed:
            while header := await self._read(packed.readline):
                table = self._header(header)[0]
                counts[table] = 0
                async for rows in self._rows(packed):
                    counts[table] += rows.count(b"\n")
        return counts

    async def tables(self) -> AsyncIterator[tuple[str, list[str], AsyncIterator[bytes]]]:
        """Each table with its columns and its rows, which are read before the next.

        Raises: CopyDamaged, OSError.
        """
        with self._opened() as packed:
            while header := await self._read(packed.readline):
                yield *self._header(header), self._rows(packed)

    def _opened(self) -> gzip.GzipFile:
        return gzip.GzipFile(self._path, "rb")

    async def _read(self, function: Callable[[], T]) -> T:
        try:
            return await in_thread(function)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CopyDamaged(f"the copy {self._path} is damaged: {error}") from error

    def _header(self, line: bytes) -> tuple[str, list[str]]:
        try:
            header = orjson.loads(line)
            return str(header["table"]), [str(name) for name in header["columns"]]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise CopyDamaged(f"the copy {self._path} is damaged: it has no tables") from error

    async def _rows(self, packed: gzip.GzipFile) -> AsyncIterator[bytes]:
        ended = False
        while not ended:
            rows, ended = await self._read(partial(_read_rows, packed))
            if rows:
                yield rows
            elif not ended:
                raise CopyDamaged(f"the copy {self._path} is damaged: it ends too early")


def _read_rows(packed: gzip.GzipFile) -> tuple[bytes, bool]:
    """Some rows, and whether they were the last of their table."""
    rows: list[bytes] = []
    size = 0
    while size < _PART and (line := packed.readline()):
        if line == _END:
            return b"".join(rows), True
        rows.append(line)
        size += len(line)
    return b"".join(rows), False
