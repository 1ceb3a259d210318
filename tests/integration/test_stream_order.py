"""Events apply in the order of the stream, wherever clocks that were wrong have put its IDs."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer, temporary_redis
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.catalogs import outbox_of, work
from tests.support.intakes import intake_on
from worker.findings import inspect_redis
from worker.queue import Queue, StreamEntry, connect, job_queue_of
from worker.queue.stream import EventStream, Pending
from worker.upload_ids import default_id

AN_HOUR_MS = 3_600_000
CAT, DOG = "uploads/cat.jpg", "uploads/dog.jpg"
STREAM = "media:uploads"


@asynccontextmanager
async def queue_at(url: str, consumer: str = "me") -> AsyncIterator[Queue]:
    redis = connect(url, job_queue_of(STREAM))
    try:
        yield Queue(redis, STREAM, consumer, 1000)
    finally:
        await redis.aclose(close_connection_pool=True)


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    async with queue_at(server.url) as opened:
        await opened.redis.flushall()
        yield opened


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def add(queue: Queue, event: dict[str, Any], entry: str = "*") -> None:
    await queue.redis.xadd(STREAM, {"event": str(event).replace("'", '"')}, id=entry)


async def state(catalog: Catalog, source: str) -> State:
    upload = await catalog.reports.find(default_id(source))
    assert upload is not None
    return upload.state


async def intake_all(queue: Queue, catalog: Catalog) -> None:
    """As a worker that starts now, until nothing waits."""
    intake = intake_on(queue, catalog)
    await intake.join()
    await intake.drain_all()


async def both_ready(queue: Queue, catalog: Catalog, ahead_ms: int = AN_HOUR_MS) -> None:
    """Two uploads that were announced while the clock was ahead."""
    intake = intake_on(queue, catalog)
    await intake.join()
    for number, source in enumerate((CAT, DOG)):
        await add(queue, {"source": source}, f"{now_ms() + ahead_ms}-{number}")
    await intake.drain_all()
    for source in (CAT, DOG):
        await work(catalog, default_id(source))


async def test_a_burst_ends_while_ever_more_is_sent_with_what_was_there_when_it_began(
    queue: Queue, catalog: Catalog
) -> None:
    intake = intake_on(queue, catalog)
    await intake.join()
    await add(queue, {"source": CAT})

    async def send_on() -> None:
        for number in itertools.count():
            async with queue.redis.pipeline(transaction=False) as pipe:
                for n in range(50):
                    pipe.xadd(STREAM, {"event": f'{{"source": "uploads/{number}-{n}.jpg"}}'})
                await pipe.execute()

    sending = asyncio.create_task(send_on())
    async with asyncio.timeout(20):
        await intake.drain_all()
    sending.cancel()

    assert await state(catalog, CAT) is State.QUEUED


# -- IDs that lie ahead


@pytest.mark.fault(28)
@pytest.mark.parametrize("ms", [99_999_999_999_999, 2**63 - 1, 2**63, 2**64 - 1])
async def test_an_entry_is_taken_wherever_its_id_lies_and_so_are_later_ones(
    queue: Queue, catalog: Catalog, ms: int
) -> None:
    await add(queue, {"source": CAT}, f"{ms}-0")
    await add(queue, {"source": DOG}, "*")
    await intake_all(queue, catalog)
    await add(queue, {"delete": str(default_id(CAT))}, "*")
    await intake_all(queue, catalog)

    assert [await state(catalog, source) for source in (CAT, DOG)] == [State.DELETING, State.QUEUED]
    assert await catalog.dead_letters.count() == 0


@pytest.mark.fault(28)
async def test_a_stream_that_lies_ahead_is_a_warning_that_names_a_command(
    queue: Queue, catalog: Catalog
) -> None:
    await both_ready(queue, catalog)
    [found] = [one for one in inspect_redis(await queue.server.info()) if one.what == "Redis stream"]
    assert await queue.stream.reset()
    [after] = [one for one in inspect_redis(await queue.server.info()) if one.what == "Redis stream"]

    assert (found.level, after.level) == ("warning", "ok")
    assert "media stream reset" in (found.advice or "")


# -- a stream that begins anew

Beginning = Callable[[Queue, Catalog], Awaitable[None]]


async def deleted(queue: Queue, _catalog: Catalog) -> None:
    await queue.redis.delete(STREAM)


async def flushed(queue: Queue, _catalog: Catalog) -> None:
    await queue.redis.flushall()


async def reset_by_command(queue: Queue, catalog: Catalog) -> None:
    await catalog.epochs.begin((await catalog.epochs.current()).number)
    assert await queue.stream.reset(even_with_entries=True)


async def restored(queue: Queue, _catalog: Catalog) -> None:
    """To a state of long before, with its group."""
    await queue.redis.delete(STREAM)
    await queue.stream.make_group()


@pytest.mark.fault(28)
@pytest.mark.parametrize("begin_anew", [deleted, flushed, reset_by_command, restored])
@pytest.mark.parametrize("runs", [True, False], ids=["a worker runs", "a worker starts later"])
async def test_changes_and_deletes_of_earlier_uploads_are_done_when_a_stream_begins_anew(
    queue: Queue, catalog: Catalog, begin_anew: Beginning, *, runs: bool
) -> None:
    await both_ready(queue, catalog)
    running = intake_on(queue, catalog)
    await running.join()
    await begin_anew(queue, catalog)
    if runs:
        await running.step(None)
    await add(queue, {"source": CAT, "metadata": {"v": 2}})
    await add(queue, {"delete": str(default_id(DOG))})
    before = await catalog.outbox.given_seq()
    await (running.drain_all() if runs else intake_all(queue, catalog))
    for source in (CAT, DOG):
        await work(catalog, default_id(source))

    assert [(one.kind, one.metadata) for one in await outbox_of(catalog, before)] == [
        (State.READY, {"v": 2}),
        (State.DELETED, {}),
    ]


async def test_another_server_whose_clock_is_behind_begins_anew(queue: Queue, catalog: Catalog) -> None:
    await both_ready(queue, catalog, ahead_ms=4 * 60 * 1000)
    with temporary_redis() as other:
        async with queue_at(other.url) as there:
            await add(there, {"delete": str(default_id(DOG))})
            await intake_all(there, catalog)

    assert await state(catalog, DOG) is State.DELETING


async def test_entries_that_a_restored_redis_brings_back_change_nothing_and_are_answered(
    queue: Queue, catalog: Catalog
) -> None:
    await intake_on(queue, catalog).join()
    await add(queue, {"delete": str(default_id(CAT))})
    early: Any = await queue.redis.dump(STREAM)
    await intake_all(queue, catalog)
    await both_ready(queue, catalog, ahead_ms=0)
    await queue.redis.restore(STREAM, 0, cast(bytes, early), replace=True)
    before = await catalog.outbox.given_seq()
    await intake_all(queue, catalog)
    came_back = await state(catalog, CAT)
    await add(queue, {"delete": str(default_id(DOG))})
    await intake_all(queue, catalog)

    assert (came_back, await state(catalog, DOG)) == (State.READY, State.DELETING)
    assert [one.kind for one in await outbox_of(catalog, before)] == [State.READY]


async def test_a_new_catalog_begins_no_epoch_when_it_makes_the_group(queue: Queue, catalog: Catalog) -> None:
    with capture_logs() as lines:
        await intake_all(queue, catalog)

    assert (await catalog.epochs.current()).number == 0
    assert lines == []


async def test_what_was_refused_is_sent_again_into_a_stream_that_began_anew(
    queue: Queue, catalog: Catalog
) -> None:
    await both_ready(queue, catalog)
    await queue.redis.delete(STREAM)
    await add(queue, {"source": CAT, "recipe": "none"})
    await intake_all(queue, catalog)
    [letter] = await catalog.dead_letters.newest(9)

    assert letter.code == "unknown_recipe"


@pytest.mark.parametrize("begin_anew", [deleted, flushed, reset_by_command])
@pytest.mark.parametrize("has_taken", [True, False], ids=["with uploads", "with nothing else"])
async def test_an_entry_of_another_epoch_that_has_the_id_of_a_refused_one_is_kept_and_answered_too(
    queue: Queue, catalog: Catalog, begin_anew: Beginning, *, has_taken: bool
) -> None:
    if has_taken:
        await add(queue, {"source": CAT}, "4-1")
    for recipe in ("none", "neither"):
        await add(queue, {"source": DOG, "recipe": recipe}, "5-1")
        await add(queue, {"source": DOG, "recipe": "last"}, "6-1")
        await intake_all(queue, catalog)
        await begin_anew(queue, catalog)

    refused = [("5-1", "neither"), ("5-1", "none"), ("6-1", "last"), ("6-1", "last")]
    letters = await catalog.dead_letters.newest(9)
    assert sorted((one.stream_id, orjson.loads(one.body)["recipe"]) for one in letters) == refused
    assert sorted(one.entry or "" for one in await outbox_of(catalog)) == [entry for entry, _ in refused]


# -- several workers


async def test_an_entry_that_is_not_pending_any_more_is_taken_over_as_no_other(
    server: RedisServer, queue: Queue
) -> None:
    await queue.stream.make_group()
    for source in (CAT, DOG):
        await queue.stream.add({"source": source})
    async with queue_at(server.url, consumer="other") as other:
        first, second = await other.stream.read(2, None)
        await other.stream.acknowledge([first])

        assert await queue.stream.take_over_some([Pending(first.id, "other", 1)]) == []
        assert await queue.stream.take_over_some([Pending(second.id, "other", 1)]) == [second]
        await other.redis.xdel(STREAM, second.id)
        assert await queue.stream.take_over_some([Pending(second.id, "other", 1)]) == []


async def test_entries_that_are_deleted_once_they_were_read_are_no_dead_letters(
    queue: Queue, catalog: Catalog
) -> None:
    await queue.stream.make_group()
    for number in range(12):  # more than an intake takes at once
        await add(queue, {"source": f"uploads/{number}.jpg"})
    entries = await queue.stream.read(12, None)
    await queue.redis.xdel(STREAM, *(entry.id for entry in entries[:11]))
    await intake_all(queue, catalog)

    assert await catalog.dead_letters.newest(9) == []
    assert await state(catalog, "uploads/11.jpg") is State.QUEUED
    assert await queue.stream.pending(entries) == frozenset()


class PausedStream(EventStream):
    """A stream whose reader stops between reading and recording."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.has_read, self.goes_on = asyncio.Event(), asyncio.Event()

    async def read(self, count: int, block_ms: int | None) -> list[StreamEntry]:
        found = await super().read(count, block_ms)
        if found and not self.has_read.is_set():
            self.has_read.set()
            await self.goes_on.wait()
        return list(found)


@asynccontextmanager
async def holding(
    server: RedisServer, catalog: Catalog, between: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """While another worker has read what is in the stream; it records that after `between`."""
    async with queue_at(server.url, "paused") as queue:
        queue.stream = stream = PausedStream(queue.redis, STREAM, "paused", queue.heartbeats)
        intake = intake_on(queue, catalog)
        await intake.join()
        step = asyncio.create_task(intake.step(None))
        await stream.has_read.wait()
        await between()
        stream.goes_on.set()
        await step
        yield


@pytest.mark.parametrize("begin_anew", [deleted, flushed, reset_by_command, restored])
async def test_what_was_read_before_a_stream_began_anew_is_older_than_what_comes_after(
    server: RedisServer, queue: Queue, catalog: Catalog, begin_anew: Beginning
) -> None:
    await both_ready(queue, catalog)
    await add(queue, {"source": CAT, "metadata": {"v": "old"}})

    async def between() -> None:
        await begin_anew(queue, catalog)
        await add(queue, {"delete": str(default_id(CAT))})
        await intake_all(queue, catalog)

    async with holding(server, catalog, between):
        assert await state(catalog, CAT) is State.DELETING


async def test_what_was_read_before_a_stream_began_anew_is_not_lost(
    server: RedisServer, queue: Queue, catalog: Catalog
) -> None:
    await both_ready(queue, catalog)
    await add(queue, {"delete": str(default_id(DOG))})

    async def between() -> None:
        await deleted(queue, catalog)
        await add(queue, {"delete": str(default_id(CAT))})
        await intake_all(queue, catalog)

    async with holding(server, catalog, between):
        assert [await state(catalog, one) for one in (CAT, DOG)] == [State.DELETING, State.DELETING]


async def test_what_is_read_of_a_stream_that_another_worker_began_anew_is_of_the_new_one(
    queue: Queue, server: RedisServer, catalog: Catalog
) -> None:
    await both_ready(queue, catalog)
    unaware = intake_on(queue, catalog)
    await unaware.join()
    await queue.redis.delete(STREAM)
    async with queue_at(server.url, consumer="another") as another:
        await intake_all(another, catalog)
        await add(queue, {"delete": str(default_id(CAT))})
        await unaware.step(None)

    assert await state(catalog, CAT) is State.DELETING
    assert (await catalog.epochs.current()).number == 1


async def test_workers_that_read_side_by_side_begin_no_epoch(
    server: RedisServer, queue: Queue, catalog: Catalog
) -> None:
    for number in range(20):
        await add(queue, {"source": f"uploads/{number}.jpg"})

    async def between() -> None:
        await intake_all_but_held(queue, catalog)

    async with holding(server, catalog, between):
        assert (await catalog.epochs.current()).number == 0
        states = [await state(catalog, f"uploads/{number}.jpg") for number in range(20)]
        assert set(states) == {State.QUEUED}


async def intake_all_but_held(queue: Queue, catalog: Catalog) -> None:
    intake = intake_on(queue, catalog)
    while await intake.step(None):
        pass


async def test_workers_that_find_a_stream_gone_together_begin_one_epoch(
    server: RedisServer, queue: Queue, catalog: Catalog
) -> None:
    await both_ready(queue, catalog)
    async with queue_at(server.url, consumer="another") as another:
        both = [intake_on(each, catalog) for each in (queue, another)]
        for intake in both:
            await intake.join()
        await queue.redis.delete(STREAM)
        await asyncio.gather(*(intake.step(None) for intake in both))

    assert (await catalog.epochs.current()).number == 1


@pytest.mark.fault(28)
async def test_a_worker_whose_clock_is_slow_takes_every_event(
    queue: Queue, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.clock.wall_ns", lambda: (now_ms() - AN_HOUR_MS) * 1_000_000)
    await add(queue, {"source": CAT})
    await intake_all(queue, catalog)

    assert (await state(catalog, CAT), await catalog.dead_letters.count()) == (State.QUEUED, 0)


async def test_a_stream_with_events_is_reset_only_where_that_is_said(queue: Queue) -> None:
    await add(queue, {"source": CAT})

    assert not await queue.stream.reset()
    assert await queue.stream.depth() == 1
    assert await queue.stream.reset(even_with_entries=True)
    assert (await queue.stream.depth(), await queue.stream.has_group()) == (0, True)
