"""Quick reads of a server: over its restarts, and in as few round trips as can be."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from scripts.postgres_server import PostgresServer
from storage.catalog.address import Address
from storage.catalog.opening import Catalog
from storage.catalog.reading import Reader, UploadFilter, open_reader
from storage.errors import CatalogUnavailable
from tests.support.catalogs import CAT, take, upload_event
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import connect, execute


@pytest.fixture
def database_kind() -> str:
    return "postgres"


@pytest.fixture
async def reader(catalog: Catalog, catalog_url: str) -> AsyncIterator[Reader]:
    await take(catalog, upload_event(1))
    async with open_reader(catalog_url) as opened:
        yield opened


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


async def test_connections_that_the_server_has_ended_are_not_used_again(
    reader: Reader, catalog_url: str, postgres_server: PostgresServer
) -> None:
    await asyncio.gather(*(reader.upload(CAT) for _ in range(4)))
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
    await execute(postgres_server, f"{end} '{name_of(catalog_url)}'")
    await asyncio.sleep(0)  # the loop reads that they are closed

    assert all(await asyncio.gather(*(reader.upload(CAT) for _ in range(4))))


async def test_a_question_that_was_given_up_takes_no_connection_with_it(
    reader: Reader, catalog_url: str, postgres_server: PostgresServer
) -> None:
    holder = await connect(postgres_server, name_of(catalog_url))
    async with holder.transaction():
        await holder.execute("LOCK uploads")
        for _ in range(6):  # more than the pool has
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.upload(CAT)
    await holder.close()

    assert await reader.upload(CAT) is not None


async def test_a_statement_that_fails_is_an_answer_in_the_catalogs_words(
    reader: Reader, catalog: Catalog
) -> None:
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE uploads RENAME TO elsewhere")

    with pytest.raises(CatalogUnavailable, match="its tables are gone"):
        await reader.upload(CAT)


async def test_a_reader_reads_through_a_pooler(
    catalog: Catalog, catalog_url: str, postgres_server: PostgresServer
) -> None:
    await take(catalog, *(upload_event(one, UUID(int=one), f"uploads/{one}") for one in range(1, 4)))
    with pgbouncer(postgres_server, connections=2) as port:
        pooled = Address(catalog_url.replace(f":{postgres_server.port}/", f":{port}/"), pooler=True)
        async with open_reader(pooled) as reader:
            pages = [await reader.page(UploadFilter(), None, 2) for _ in range(8)]

    assert [len(page) for page in pages] == [2] * 8
