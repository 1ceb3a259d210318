"""What tests with a Redis share: a server a module, and a queue on it that is empty."""

from collections.abc import AsyncIterator, Iterator

import pytest

from scripts.redis_server import RedisServer, temporary_redis
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
