"""The intake's clock: an entry is judged by the clock that gave it its ID."""

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from scripts.redis_server import RedisServer, temporary_redis
from storage.catalog import Catalog
from storage.catalog.facts import State
from tests.support.intakes import intake_on
from worker.events import default_id
from worker.queue import Queue, connect, job_queue_of

SOURCE = "uploads/cat.jpg"
TEN_MINUTES_MS = 600_000


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with temporary_redis() as running:
        yield running


async def test_a_worker_whose_clock_is_slow_refuses_no_event(
    server: RedisServer, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = f"uploads-{uuid4()}"
    redis = connect(server.url, job_queue_of(stream))
    queue = Queue(redis, stream, "me", 1000)
    await queue.make_group()
    await queue.add({"source": SOURCE})
    monkeypatch.setattr("worker.intake.now_ms", lambda: int(time.time() * 1000) - TEN_MINUTES_MS)

    await intake_on(queue, catalog).drain(10)

    upload = await catalog.reports.find(default_id(SOURCE))
    await redis.aclose(close_connection_pool=True)
    assert upload is not None
    assert (upload.state, await catalog.letters.count()) == (State.QUEUED, 0)


async def test_an_entry_whose_id_is_no_time_is_refused(server: RedisServer, catalog: Catalog) -> None:
    stream = f"uploads-{uuid4()}"
    redis = connect(server.url, job_queue_of(stream))
    queue = Queue(redis, stream, "me", 1000)
    await queue.make_group()
    ahead = int(time.time() * 1000) + TEN_MINUTES_MS
    await redis.xadd(stream, {"event": b'{"source": "uploads/cat.jpg"}'}, id=f"{ahead}-0")

    await intake_on(queue, catalog).drain(10)

    [letter] = await catalog.letters.newest(10)
    await redis.aclose(close_connection_pool=True)
    assert (letter.code, letter.stream_id) == ("invalid_event", f"{ahead}-0")
