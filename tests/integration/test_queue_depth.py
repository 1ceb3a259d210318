"""What waits, as the health check and `media stats` report it."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from scripts.redis_server import RedisServer
from worker import health
from worker.health import check_jobs
from worker.queue import Queue, connect, job_queue_of


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    redis = connect(server.url, job_queue_of("media:uploads"))
    await redis.flushall()
    yield Queue(redis, "media:uploads", "me", 1000)
    await redis.aclose(close_connection_pool=True)


async def test_a_worker_that_is_well_says_how_much_waits_and_since_when(queue: Queue) -> None:
    nothing = await queue.stream.waits()
    a_minute_ago = await queue.stream.now_ms() - 60_000
    for number in range(3):
        await queue.redis.xadd("media:uploads", {"event": b"{}"}, id=f"{a_minute_ago}-{number + 1}")

    something = await queue.stream.waits()
    assert nothing == "0 events wait"
    assert something in ("3 events wait, the oldest for 60 s", "3 events wait, the oldest for 61 s")


async def test_a_worker_that_begins_none_of_its_jobs_though_it_has_room_is_unhealthy(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "OVERDUE_AFTER_S", 0.0)
    has_room = True
    check, job_id = check_jobs(queue, lambda: has_room), uuid4().hex
    await queue.jobs.enqueue({job_id: [uuid4()]})
    seen = await check()
    overdue = await check()
    has_room = False
    full = await check()
    has_room = True
    free_again = await check()  # it is to be begun in a moment
    await queue.jobs.renew(job_id, 60)
    begun = await check()

    assert overdue == "a job has been due for 0 s and does not start"
    assert (seen, full, free_again, begun) == (None, None, None, None)
