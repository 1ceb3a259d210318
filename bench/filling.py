"""Catalogs filled for a measurement: by the database itself, so that a million uploads take a minute."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from scripts.postgres_server import PostgresServer
from storage.catalog.database import open_database
from storage.catalog.reports import Reports

_NOW = "CAST(extract(epoch FROM now()) * 1000 AS bigint)"

# In the order of the keys, so that an index grows at its end.
_UPLOADS = f"""
    INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch, job_id,
        generation, claim, holder, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive,
        delete_original, adopted, stamp, sha256, bytes, format, width, height, color)
    SELECT id, 'uploads/old/' || id || '.jpg', $2, 'default', '{{}}', 0, 0, 0, $3, 0, 1, $4, 0, 0,
        {_NOW}, {_NOW}, 0, false, false, false, '1:2:3:4:5', md5(id) || md5(id), 2000000, 'jpeg', 4000, 3000,
        '#808080'
    FROM (SELECT CAST(gen_random_uuid() AS text) AS id FROM generate_series(1, $1) ORDER BY 1) AS new
"""  # noqa: S608 (our own words)
_VARIANTS = f"""
    INSERT INTO variants (key, upload_id, name, number, width, height, bytes, sha256, made_ms)
    SELECT 'variants/' || substr(hex, 1, 2) || '/' || substr(hex, 3, 2) || '/' || hex || '.jpg', id, name,
        place, box, box * 3 / 4, box * 100, hex || hex, {_NOW}
    FROM (
        SELECT id, name, place, box, md5(id || name) AS hex FROM uploads,
            (VALUES ('thumb', 0, 150), ('medium', 1, 800), ('large', 2, 1920)) AS each (name, place, box)
        ORDER BY hex
    ) AS new
"""  # noqa: S608
_SENT = f"INSERT INTO outbox (body, made_ms, sent_ms) SELECT '{{}}', {_NOW}, {_NOW} FROM uploads"  # noqa: S608


async def new_database(server: PostgresServer, name: str) -> str:
    """An empty database of that name; returns its URL."""
    connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return server.url(name)


async def fill_postgres(url: str, count: int) -> None:
    """Put `count` finished uploads with three variants and a sent message each into an empty catalog."""
    async with _without_triggers(url) as connection:
        await connection.execute(_UPLOADS, count, "ready", "old", None)
        await connection.execute(_VARIANTS)
        await connection.execute(_SENT)
        await connection.execute("VACUUM ANALYZE")  # or autovacuum does it during the measurement
        await connection.execute("CHECKPOINT")
    await _correct_totals(url)


async def add_claimed(url: str, count: int, jobs: Sequence[str]) -> None:
    """Put `count` uploads on each of those jobs, all claimed by the worker of that name."""
    async with _without_triggers(url) as connection:
        for job_id in jobs:
            await connection.execute(_UPLOADS, count, "processing", job_id, job_id)
        await connection.execute("ANALYZE")
    await _correct_totals(url)


@asynccontextmanager
async def _without_triggers(url: str) -> AsyncIterator[Any]:
    """A connection whose rows are not added to the totals one by one."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SET session_replication_role = replica")
        yield connection
    finally:
        await connection.close()


async def _correct_totals(url: str) -> None:
    async with open_database(url, create=False, migrate=False) as database:
        reports = Reports(database)
        await reports.correct(await reports.check_totals())
