"""A stream with an ID far in the future: all later ones are newer still, until somebody removes it."""

import time
from collections.abc import AsyncIterator, Iterator

import pytest
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer, temporary_redis
from storage.catalog import Catalog
from storage.catalog.facts import State
from tests.support.intakes import intake_on
from worker import health
from worker.events import default_id
from worker.health import Health, check_stream, judge_redis
from worker.queue import Queue, connect, job_queue_of

AN_HOUR_MS = 3_600_000
_KEY = "media:uploads:health:here:1"


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
async def poisoned(queue: Queue, catalog: Catalog) -> Queue:
    """A queue whose stream has had an entry of a time that has not come, which was refused."""
    await queue.make_group()
    ahead = int(time.time() * 1000) + AN_HOUR_MS
    await queue.redis.xadd(queue.stream, {"event": b"{}"}, id=f"{ahead}-0")
    await intake_on(queue, catalog).drain(10)
    return queue


async def stream_of(queue: Queue) -> health.Finding:
    [found] = [one for one in judge_redis(await queue.facts()) if one.what == "Redis stream"]
    return found


async def test_a_stream_that_nobody_has_used_is_well(queue: Queue) -> None:
    assert (await stream_of(queue)).level == "ok"

    await queue.make_group()
    await queue.add({"source": "uploads/cat.jpg"})

    assert (await stream_of(queue)).level == "ok"


async def test_a_stream_whose_newest_id_lies_ahead_is_an_error_that_names_the_cure(poisoned: Queue) -> None:
    found = await stream_of(poisoned)

    assert found.level == "error"
    assert "ahead of the clock" in found.detail
    assert found.advice is not None
    assert all(word in found.advice for word in ("DEL", "XSETID", "media failed retry"))


async def test_a_worker_on_such_a_stream_says_that_it_is_unwell(poisoned: Queue) -> None:
    worker = Health(_KEY, poisoned, {"stream": check_stream(poisoned)})
    await poisoned.well(_KEY, 15)
    with capture_logs() as lines:
        await worker.tell()

    assert not await poisoned.has_worker()
    assert [line["event"] for line in lines] == ["health_red"]
    assert "media doctor" in lines[0]["reason"]


async def test_the_cure_heals_it_and_what_was_refused_can_be_sent_again(
    poisoned: Queue, catalog: Catalog
) -> None:
    await poisoned.add({"source": "uploads/cat.jpg"})
    intake = intake_on(poisoned, catalog)
    await intake.drain(10)
    [refused, _] = await catalog.letters.newest(10)
    assert await poisoned.depth() == 0

    await poisoned.redis.delete(poisoned.stream)
    await poisoned.add_raw(refused.body)
    while not await intake.drain(10):
        pass  # the first look makes the group again

    upload = await catalog.reports.find(default_id("uploads/cat.jpg"))
    assert upload is not None
    assert upload.state is State.QUEUED
    assert (await stream_of(poisoned)).level == "ok"
