"""Green only when work gets done: what stands still, and what Redis refuses, turns a worker red."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from tests.support.intakes import BACKLOG, intake_on
from worker.doctor.broker import check_redis
from worker.health import Health, check_intake, check_rights
from worker.queue import Queue, QueueUnavailable, connect, job_queue_of
from worker.settings import Settings
from worker.upload_ids import default_id

STREAM = "media:uploads"
SOON_S = 0.05


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(server.url)
    yield client
    client.config_set("maxmemory", 0)
    client.replicaof("NO", "ONE")
    client.flushall()
    client.close()


@pytest.fixture
async def queue(server: RedisServer, admin: Any) -> AsyncIterator[Queue]:
    client = connect(server.url, job_queue_of(STREAM))
    yield Queue(client, STREAM, "me", 1000)
    await client.aclose(close_connection_pool=True)


async def test_an_intake_that_stands_turns_red_and_one_that_goes_on_does_not(
    queue: Queue, catalog: Catalog
) -> None:
    check = check_intake(queue, BACKLOG, SOON_S)
    intake = intake_on(queue, catalog)
    assert await check() is None  # nothing waits

    first = await queue.stream.add({"source": "uploads/a.jpg"})
    assert await check() is None  # it has only come
    await asyncio.sleep(2 * SOON_S)
    problem = await check()
    assert problem is not None
    assert first in problem

    while await queue.stream.depth():
        await intake.drain(10)
    await queue.stream.add({"source": "uploads/b.jpg"})
    assert await check() is None  # another one is the first


@pytest.mark.parametrize(
    "event", [{"source": "uploads/a.jpg"}, {"source": "uploads/a.jpg", "recipe": "none"}]
)
async def test_an_entry_that_redis_does_not_let_go_of_is_answered_once(
    queue: Queue, catalog: Catalog, admin: Any, event: dict[str, str]
) -> None:
    intake = intake_on(queue, catalog)
    await intake.join()
    await queue.stream.add({"source": "uploads/a.jpg"})
    await queue.stream.add({"delete": str(default_id("uploads/a.jpg"))})
    await intake.drain(10)
    answered = await catalog.outbox.given_seq()
    await queue.stream.add(event)
    await queue.stream.add({"delete": str(uuid4())})
    admin.execute_command("ACL", "SETUSER", "default", "-xdel")
    try:
        for _ in range(5):
            with pytest.raises(QueueUnavailable):
                await intake.drain(10)
        once = await catalog.outbox.given_seq()
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+xdel")
    await intake.drain(10)

    assert once - answered == (2 if "recipe" in event else 1)
    assert await catalog.outbox.given_seq() == once
    assert await queue.stream.depth() == 0


async def test_an_intake_that_waits_for_work_in_hand_does_not_stand(queue: Queue) -> None:
    check = check_intake(queue, 2, SOON_S)
    await queue.stream.add({"source": "uploads/a.jpg"})
    await check()
    await asyncio.sleep(2 * SOON_S)
    assert await check() is not None

    await queue.jobs.enqueue({uuid4().hex: [uuid4()] for _ in range(2)})

    assert await check() is None


def _fill(admin: Any) -> None:
    admin.config_set("maxmemory", 1)


def _make_a_replica(admin: Any) -> None:
    admin.replicaof("127.0.0.1", "1")


def _lose_the_primary(admin: Any) -> None:
    admin.config_set("replica-serve-stale-data", "no")
    _make_a_replica(admin)


@pytest.mark.parametrize(
    ("hinder", "answer"),
    [(_fill, "maxmemory"), (_make_a_replica, "replica"), (_lose_the_primary, "replica")],
)
async def test_a_redis_that_takes_nothing_more_turns_a_worker_red_and_doctor_reports_it(
    queue: Queue, server: RedisServer, admin: Any, hinder: Any, answer: str
) -> None:
    health = Health("here:1:1", queue, {"rights": check_rights(queue)}, asyncio.Event())
    await health.report()
    assert await queue.heartbeats.any_healthy()
    hinder(admin)

    with capture_logs() as logged:
        await health.report()
    found = (await check_redis(Settings(redis_url=server.url))).findings[0]

    [red] = logged
    assert red["event"] == "unhealthy"
    assert answer in red["reason"]
    if answer == "maxmemory":  # a replica does not even let the last heartbeat go, or does not report it
        assert not await queue.heartbeats.any_healthy()
    assert found.level == "error"
    assert answer in found.detail
    assert found.advice
    admin.config_set("maxmemory", 0)
    admin.replicaof("NO", "ONE")
    admin.config_set("replica-serve-stale-data", "yes")
    await health.report()
    assert await queue.heartbeats.any_healthy()


async def test_rights_are_tried_again_at_once_while_one_is_missing_and_else_only_now_and_then(
    queue: Queue, server: RedisServer, admin: Any
) -> None:
    def tried() -> int:
        return int(admin.info("commandstats").get("cmdstat_watch", {"calls": 0})["calls"])

    admin.config_resetstat()
    check = check_rights(queue, again_after_s=1)
    assert await check() is None
    assert await check() is None
    assert tried() == 1
    admin.execute_command("ACL SETUSER default -watch")
    async with asyncio.timeout(10):
        while await check() is None:  # noqa: ASYNC110 (no event marks the end of the second)
            await asyncio.sleep(0.02)
    admin.execute_command("ACL SETUSER default +watch")

    assert await check() is None
    assert tried() == 2
