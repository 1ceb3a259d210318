"""Copies of a new catalog on one Postgres: what a test has used is emptied for the next, which is quicker."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from scripts.postgres_server import PostgresServer
from tests.support.postgres import connect, execute

_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_SHAPE = """
    SELECT 'column', r.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text
        FROM pg_class r JOIN pg_attribute a ON a.attrelid = r.oid
        WHERE r.relnamespace = 'public'::regnamespace AND a.attnum > 0
    UNION ALL SELECT 'relation', relname, relkind::text, relowner::text, relacl::text
        FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid), '', ''
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'function', proname, prosrc, '', '' FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgname, tgrelid::regclass::text, tgenabled::text, '' FROM pg_trigger
        WHERE NOT tgisinternal
    UNION ALL SELECT 'sequence', seqrelid::regclass::text, seqcache::text, seqincrement::text, seqmax::text
        FROM pg_sequence
    UNION ALL SELECT 'setting', setconfig::text, '', '', '' FROM pg_db_role_setting
    ORDER BY 1, 2, 3, 4, 5
"""
_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
_SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"


class CatalogDatabases:
    """The databases of one server; each holds a new catalog when a test takes it."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        """`template` names a database whose catalog nobody has used."""
        self._server = server
        self._template = template
        self._names = (f"catalog_{number}" for number in count())
        self._free: list[str] = []
        self._fresh: _Content | None = None

    def create(self, name: str) -> str:
        """A new catalog that stays until its server ends; returns its URL."""
        asyncio.run(execute(self._server, f"CREATE DATABASE {name} TEMPLATE {self._template}"))
        return self._server.url(name)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[str]:
        """Yield the URL of a catalog that nobody has used."""
        name = self._free.pop() if self._free else await self._copy()
        try:
            yield self._server.url(name)
        finally:
            await self._take_back(name)

    async def _copy(self) -> str:
        if self._fresh is None:
            connection = await connect(self._server, self._template)
            self._fresh = await _Content.of(connection)
            await connection.close()
        name = next(self._names)
        await execute(self._server, f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    async def _take_back(self, name: str) -> None:
        assert self._fresh is not None
        connection = await connect(self._server, name)
        try:
            await connection.execute(_END_OTHERS)
            reusable = await self._fresh.restore(connection)
        finally:
            await connection.close()
        if reusable:
            self._free.append(name)
        else:
            await execute(self._server, f"DROP DATABASE {name} WITH (FORCE)")


class _Content:
    """What is in a database: its shape, its rows, and how far its sequences are."""

    def __init__(
        self, shape: Sequence[Any], rows: Mapping[str, Sequence[Any]], sequences: Mapping[str, Any]
    ) -> None:
        self._shape = shape
        self._rows = rows
        self._sequences = sequences

    @classmethod
    async def of(cls, connection: Any) -> "_Content":
        tables = [table for (table,) in await connection.fetch(_TABLES)]
        rows = {table: await connection.fetch(f'SELECT * FROM "{table}"') for table in tables}
        sequences = {
            name: tuple(await connection.fetchrow(f'SELECT last_value, is_called FROM "{name}"'))
            for (name,) in await connection.fetch(_SEQUENCES)
        }
        return cls(await connection.fetch(_SHAPE), rows, sequences)

    async def restore(self, connection: Any) -> bool:
        """Put a database of the same shape back into this state; False where its shape is another."""
        if await connection.fetch(_SHAPE) != self._shape:
            return False
        empty = "".join(f'DELETE FROM "{table}";' for table in self._rows)
        begin = "".join(
            f"SELECT setval('\"{name}\"', {value}, {called});"
            for name, (value, called) in self._sequences.items()
        )
        # As a replica, so that no trigger counts what is deleted.
        await connection.execute(
            f"SET session_replication_role = replica; {empty} {begin} SELECT pg_stat_reset()"
        )
        for table, rows in self._rows.items():
            if rows:
                await connection.copy_records_to_table(table, records=rows, columns=list(rows[0].keys()))
        return True
