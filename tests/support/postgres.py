"""Databases on a Postgres of the tests' own."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from scripts.postgres_server import PostgresServer

_numbers = itertools.count()
DROP_ALL = """DO $$ BEGIN EXECUTE (
    SELECT 'DROP TABLE ' || string_agg(quote_ident(tablename), ', ') || ' CASCADE'
    FROM pg_tables WHERE schemaname = 'public'
); END $$"""
"""Every table goes, and what needs it; functions stay."""


@asynccontextmanager
async def new_database(server: PostgresServer, template: str | None = None) -> AsyncIterator[str]:
    """A database of its own: an empty one, or a copy of `template`; yields its URL."""
    name = f"test_{next(_numbers)}"
    await execute(server, f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
    try:
        yield server.url(name)
    finally:
        await execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def create_database(server: PostgresServer, name: str) -> str:
    """An empty database that stays until its server ends; returns its URL."""
    asyncio.run(execute(server, f"CREATE DATABASE {name}"))
    return server.url(name)


async def execute(server: PostgresServer, statement: str, database: str = "postgres") -> None:
    """Run a statement outside a transaction."""
    connection = await connect(server, database)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def connect(server: PostgresServer, database: str = "postgres") -> Any:
    """A connection of asyncpg's, to be closed by the caller."""
    return await asyncpg.connect(server.url(database).replace("+asyncpg", ""))
