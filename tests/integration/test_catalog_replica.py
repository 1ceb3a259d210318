"""A replica of the catalog is read in its place while it answers; how far it lags behind is known."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import UUID

import pytest

from scripts.postgres_server import PostgresServer
from storage.catalog import postgres_reading
from storage.catalog.address import Address
from storage.catalog.http_keys import HttpKey
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.reading import Cursor, Reader, UploadFilter, open_reader
from storage.errors import CatalogUnavailable, StorageError
from tests.support.catalogs import CAT, take, upload_event, work
from tests.support.polling import until
from tests.support.postgres import execute
from tests.support.postgres_replica import PostgresReplica, replica_of
from tests.support.tcp_proxy import TcpProxy

LATE = UUID(int=9)


@pytest.fixture(scope="module")
def replica(postgres_server: PostgresServer) -> Iterator[PostgresReplica]:
    with replica_of(postgres_server) as server:
        yield server


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[TcpProxy]:
    """Stands before the catalog itself, for the reader alone."""
    before = TcpProxy(postgres_server.port)
    yield before
    before.close()


@pytest.fixture
async def filled(postgres_url: str) -> AsyncIterator[Catalog]:
    async with open_catalog(postgres_url) as catalog:
        await take(catalog, upload_event(1))
        await work(catalog)
        yield catalog


class Told:
    """What a reader says of its replica."""

    def __init__(self) -> None:
        self.reasons: list[str | None] = []

    def __call__(self, name: str, error: CatalogUnavailable | None) -> None:
        self.reasons.append(None if error is None else str(error))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def reader(
    filled: Catalog,
    postgres_url: str,
    postgres_server: PostgresServer,
    replica: PostgresReplica,
    proxy: TcpProxy,
    told: Told,
) -> AsyncIterator[Reader]:
    """A reader, once the replica has the catalog."""
    catalog = Address(postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/"))
    own = Address(postgres_url.replace(f":{postgres_server.port}/", f":{replica.port}/"), is_replica=True)

    async def follows() -> bool:
        with suppress(StorageError):
            async with open_reader(own) as there:
                return await there.upload(CAT) is not None
        return False

    await until(follows)
    async with open_reader(catalog, read_address=own, on_replica=told) as opened:
        yield opened


@contextmanager
def away(proxy: TcpProxy) -> Iterator[None]:
    """The catalog itself does not answer."""
    proxy.refuse()
    yield
    proxy.accept()


@asynccontextmanager
async def paused(replica: PostgresReplica) -> AsyncIterator[None]:
    """The replica replays nothing of what it receives."""
    await execute(replica, "SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        await execute(replica, "SELECT pg_wal_replay_resume()")


async def test_what_is_read_is_the_replicas_and_says_how_far_it_is_behind(
    filled: Catalog, reader: Reader, replica: PostgresReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_reading, "LAG_KEPT_S", 0.0)

    async def is_behind() -> bool:
        return await reader.upload(LATE) is None and (reader.lag_s or 0.0) > 0

    async def is_level() -> bool:
        return await reader.upload(LATE) is not None and reader.lag_s == 0

    async with paused(replica):
        await take(filled, upload_event(2, LATE, "uploads/late.jpg"))
        await until(is_behind)
    await until(is_level)


async def test_a_replica_answers_everything_that_a_reader_asks(reader: Reader, filled: Catalog) -> None:
    [found] = await reader.page(UploadFilter(owner="2026"), None, 10)

    assert found == await reader.upload(CAT) == await filled.reports.find(CAT)
    assert await reader.page(UploadFilter(), Cursor.of(found), 10) == []
    assert [message.owner for message in await reader.messages(0, 10, CAT)] == ["2026"]
    assert (await reader.newest_seq(), await reader.dead_letters(None, 1)) == (1, [])


async def test_a_replica_that_is_away_is_told_of_once_and_the_catalog_is_read(
    reader: Reader, replica: PostgresReplica, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_reading, "AGAIN_S", 0.0)
    replica.kill()
    try:
        found = [await reader.upload(CAT) for _ in range(3)]
        assert [upload is not None for upload in found] == [True] * 3
        [reason] = told.reasons
        assert "postgresql://media@127.0.0.1" in str(reason)
    finally:
        replica.start()

    async def is_back() -> bool:
        return await reader.upload(CAT) is not None and told.reasons[1:] == [None]

    await until(is_back)


async def test_keys_are_those_of_the_catalog_itself(
    filled: Catalog, reader: Reader, replica: PostgresReplica
) -> None:
    async with paused(replica):
        await filled.http_keys.add(HttpKey("shop", "a" * 64, frozenset({"read"})))

        assert [key.name for key in await reader.http_keys()] == ["shop"]


async def test_a_replica_is_read_on_while_the_catalog_itself_is_away(reader: Reader, proxy: TcpProxy) -> None:
    with away(proxy):
        assert await reader.upload(CAT) is not None
        assert await reader.http_keys() == []


async def test_a_reader_opens_on_the_replica_while_the_catalog_is_away(
    reader: Reader, proxy: TcpProxy, replica: PostgresReplica, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    urls = [
        replica.url(name).replace(f":{replica.port}/", f":{port}/") for port in (proxy.port, replica.port)
    ]
    with away(proxy):
        async with open_reader(urls[0], read_address=Address(urls[1], is_replica=True)) as late:
            assert await late.upload(CAT) is not None
