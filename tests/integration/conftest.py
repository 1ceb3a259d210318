"""What tests with a Redis share: a server a module, and a queue on it that is empty."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from scripts.redis_server import RedisServer, temporary_redis
from storage.blobs.local import open_local
from storage.catalog.opening import Catalog
from tests.support.face import OpenFace, opened_face, settings_in
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
async def installation(queue: Queue, catalog: Catalog, tmp_path: Path) -> Path:
    """A folder with a storage root that belongs to `catalog`, on an empty Redis."""
    async with open_local(tmp_path / "media", create=True) as blobs:
        await blobs.bind(catalog.id, catalog_is_new=True)
        await catalog.database.mark_bound()
    return tmp_path


@pytest.fixture
async def opened(installation: Path, server: RedisServer, catalog_url: str) -> AsyncIterator[OpenFace]:
    """The HTTP face of that installation, in this process; nobody works there."""
    async with opened_face(settings_in(installation, server.url, catalog_url=catalog_url)) as opened:
        yield opened


@pytest.fixture
def client(opened: OpenFace) -> httpx.AsyncClient:
    """A client of the face, without a key."""
    return opened.client
