"""A stream belongs to one catalog, as a storage root does: nobody eats another installation's uploads."""

import asyncio
from uuid import uuid4

import pytest

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from tests.support.intakes import intake_on
from worker.doctor.broker import check_redis, check_stream
from worker.health import Health
from worker.queue import Queue, StreamMismatch
from worker.settings import Settings

STREAM = "media:uploads"
OTHER = str(uuid4())


async def test_of_two_first_workers_with_different_catalogs_exactly_one_has_the_stream(queue: Queue) -> None:
    both = [queue, Queue(queue.redis, STREAM, "other", 1000)]

    ends = await asyncio.gather(*(one.ownership.bind(str(uuid4())) for one in both), return_exceptions=True)

    [refused] = [end for end in ends if end is not None]
    assert isinstance(refused, StreamMismatch)
    assert "another installation" in str(refused)
    assert "MEDIA_STREAM" in str(refused)


async def test_a_redis_that_lost_its_data_is_tied_to_the_same_catalog_again(queue: Queue) -> None:
    await queue.ownership.bind(OTHER)
    await queue.redis.flushdb()

    await queue.ownership.check()

    assert await queue.ownership.owner() == OTHER


async def test_an_event_on_a_stream_that_is_anothers_by_now_is_left_to_it(
    queue: Queue, catalog: Catalog
) -> None:
    await queue.ownership.bind(catalog.id)
    intake = intake_on(queue, catalog)
    await intake.drain(10)
    await queue.redis.set(f"{STREAM}:catalog", OTHER)
    await queue.stream.add({"source": "uploads/a.jpg"})

    for _ in range(2):  # what it has read already it reads no more, for that would keep it
        with pytest.raises(StreamMismatch):
            await intake.drain(10)

    assert sum((await catalog.reports.states()).values()) == 0
    assert await queue.stream.depth() == 1
    assert await queue.redis.zcard(queue.jobs.key) == 0
    owner = Queue(queue.redis, STREAM, "other", 1000)
    await owner.ownership.bind(OTHER)
    await asyncio.sleep(0.01)
    entries = [*await owner.stream.take_over(1, 10), *await owner.stream.read(10, None)]
    assert [entry.event for entry in entries] == [b'{"source":"uploads/a.jpg"}']


async def test_a_worker_whose_stream_is_anothers_by_now_says_so_and_is_well_again_after_it(
    queue: Queue,
) -> None:
    mine = str(uuid4())
    await queue.ownership.bind(mine)
    health = Health("here:1:1", queue, {"owner": queue.ownership.check}, asyncio.Event())
    answer = []
    for owner in (mine, OTHER, mine):
        await queue.redis.set(f"{STREAM}:catalog", owner)
        await health.report()
        [worker] = await queue.heartbeats.living()
        answer.append((worker.healthy, OTHER in worker.detail))

    assert answer == [(True, False), (False, True), (True, False)]


async def test_doctor_reports_whose_the_stream_is(queue: Queue, server: RedisServer) -> None:
    settings = Settings(redis_url=server.url)
    [nobodys] = check_stream(settings, await check_redis(settings), OTHER)
    await queue.ownership.bind(OTHER)
    redis = await check_redis(settings)
    [own] = check_stream(settings, redis, OTHER)
    [anothers] = check_stream(settings, redis, str(uuid4()))
    [before_a_catalog] = check_stream(settings, redis, None)

    assert [found.level for found in (nobodys, own, anothers, before_a_catalog)] == ["ok", "ok"] + [
        "error"
    ] * 2
    assert check_stream(settings, redis, None, root_of=OTHER)[0].level == "ok"  # the catalog is lost
    assert OTHER in anothers.detail
    assert "MEDIA_EVENTS" in (anothers.advice or "")


async def test_a_rebuild_gives_the_stream_of_the_lost_catalog_to_the_new_one_and_no_other(
    queue: Queue,
) -> None:
    lost, new = str(uuid4()), str(uuid4())
    await queue.ownership.bind(lost)
    await queue.ownership.rebind(new, before=lost)
    assert await queue.ownership.owner() == new
    await queue.ownership.rebind(new, before=lost)  # one that was interrupted goes on

    with pytest.raises(StreamMismatch):
        await queue.ownership.rebind(OTHER, before=lost)


async def test_two_installations_with_streams_of_their_own_hear_only_their_own_messages(
    queue: Queue,
) -> None:
    other = Queue(queue.redis, "other:uploads", "other", 1000, "other:events")
    await queue.ownership.bind(str(uuid4()))
    await other.ownership.bind(OTHER)

    await queue.messages.send([{"seq": 1}])
    await other.messages.send([{"seq": 2}])

    assert [answer["seq"] for _, answer in await queue.messages.after("0", 1)] == [1]
    assert [answer["seq"] for _, answer in await other.messages.after("0", 1)] == [2]
    assert await other.messages.last_id() != "0"
