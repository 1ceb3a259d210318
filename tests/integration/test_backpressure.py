"""Backpressure: while enough waits to be done, nothing more is taken from the stream."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from scripts.redis_server import temporary_redis
from storage.catalog.opening import Catalog
from tests.support.intakes import BACKLOG, intake_on
from tests.support.polling import until
from worker.queue import Queue, connect, job_queue_of, new_instance


@pytest.fixture
async def queue() -> AsyncIterator[Queue]:
    with temporary_redis() as server:
        redis = connect(server.url, job_queue_of("media:uploads"))
        yield Queue(redis, "media:uploads", "me", 1000)
        await redis.aclose(close_connection_pool=True)


async def test_a_job_counts_from_the_moment_it_is_enqueued(queue: Queue) -> None:
    for waiting in range(1, 101):
        await queue.jobs.enqueue({uuid4().hex: []})
        assert await queue.jobs.untaken() == waiting


async def test_an_intake_with_enough_in_hand_takes_nothing_until_some_of_it_is_done(
    queue: Queue, catalog: Catalog
) -> None:
    stopping = asyncio.Event()
    intake = intake_on(queue, catalog, stopping)
    jobs = [uuid4().hex for _ in range(BACKLOG)]
    await queue.stream.make_group()
    await queue.jobs.enqueue({job_id: [] for job_id in jobs})
    await queue.stream.add({"source": "uploads/cat.jpg"})

    async def has_looked_three_times() -> bool:
        stats = await queue.redis.info("commandstats")
        return bool(stats.get("cmdstat_zrangebyscore", {}).get("calls", 0) >= 3)

    async def has_taken_it() -> bool:
        return await queue.stream.depth() == 0

    running = asyncio.create_task(intake.run())
    await until(has_looked_three_times)
    assert await queue.stream.depth() == 1

    await queue.jobs.discard(jobs[:1])
    await until(has_taken_it)

    stopping.set()
    await running


async def test_an_intake_with_enough_in_hand_still_takes_over_what_nobody_polls(
    queue: Queue, catalog: Catalog
) -> None:
    stopping = asyncio.Event()
    worker = Queue(queue.redis, "media:uploads", "me", 1000, instance=new_instance())
    await queue.jobs.enqueue({uuid4().hex: []})
    await worker.jobs.enqueue({uuid4().hex: [] for _ in range(BACKLOG)})

    async def has_taken_it_over() -> bool:
        return not await queue.redis.exists(queue.jobs.key)

    running = asyncio.create_task(intake_on(worker, catalog, stopping).run())
    await until(has_taken_it_over)

    stopping.set()
    await running
