"""Connections to Redis: each is somebody's alone, and who finds none waits for one, but not for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from scripts.redis_server import RedisServer
from worker.queue.pool import PromptPool
from worker.queue.url import server_of


@pytest.fixture
async def pool(server: RedisServer) -> AsyncIterator[PromptPool]:
    """A pool of one connection."""
    pool = PromptPool(**server_of(server.url), max_connections=1)
    yield pool
    await pool.disconnect()


async def test_who_finds_no_connection_waits_for_one_that_is_returned(pool: PromptPool) -> None:
    first = await pool.get_connection()
    waiting = asyncio.create_task(pool.get_connection())
    await asyncio.sleep(0)
    await pool.release(first)

    assert await waiting is first


async def test_nobody_waits_for_a_connection_for_longer_than_the_limit(pool: PromptPool) -> None:
    first = await pool.get_connection()
    pool.timeout = 0

    with pytest.raises(RedisConnectionError, match="No connection available"):
        await pool.get_connection()

    await pool.release(first)
    assert await pool.get_connection() is first
