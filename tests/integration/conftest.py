"""What tests with a Redis share: a server a module, and a queue on it that is empty."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from scripts.redis_server import RedisServer, temporary_redis
from storage.blobs.opening import open_blobs
from storage.catalog.opening import Catalog
from tests.support.face import OpenFace, Opening, opened_face, settings_in
from tests.support.s3 import new_place
from worker.queue import Queue, connect, job_queue_of


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with temporary_redis() as running:
        yield running


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    redis = connect(server.url, job_queue_of("media:uploads"))
    await redis.flushdb()
    yield Queue(redis, "media:uploads", "me", 1000)
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
def storage_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> str:
    """Where blobs are: in a folder beside a catalog that is a file, in a bucket beside one on a server."""
    if database_kind == "postgres":
        return new_place(request.getfixturevalue("seaweedfs")).url
    return f"file:{tmp_path / 'media'}"


@pytest.fixture
async def installation(queue: Queue, catalog: Catalog, storage_url: str, tmp_path: Path) -> Path:
    """A folder for a storage that belongs to `catalog`, on an empty Redis."""
    async with open_blobs(storage_url, create=True) as blobs:
        await blobs.bind(catalog.id, catalog_is_new=True)
        await catalog.database.mark_bound()
    return tmp_path


@pytest.fixture
async def opened(
    installation: Path, server: RedisServer, catalog_url: str, storage_url: str
) -> AsyncIterator[OpenFace]:
    """The HTTP face of that installation, in this process; nobody works there."""
    urls = {"catalog_url": catalog_url, "storage_url": storage_url}
    async with opened_face(settings_in(installation, server.url, **urls)) as opened:
        yield opened


@pytest.fixture
def opening(installation: Path, server: RedisServer, catalog_url: str, storage_url: str) -> Opening:
    """Opens the face of that installation with settings of one's own."""

    @asynccontextmanager
    async def open_with(redis_url: str = server.url, **values: object) -> AsyncIterator[OpenFace]:
        given = {"catalog_url": catalog_url, "storage_url": storage_url, **values}
        async with opened_face(settings_in(installation, redis_url, **given)) as opened:
            yield opened

    return open_with


@pytest.fixture
def client(opened: OpenFace) -> httpx.AsyncClient:
    """A client of the face, without a key."""
    return opened.client
