"""An entry that ends its readers, or is too large to be read, becomes a dead letter; all others are taken."""

from collections.abc import AsyncIterator

import pytest
from redis.exceptions import RedisError

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.errors import CatalogUnavailable
from tests.support.intakes import intake_on
from worker.failures import has_event
from worker.findings import inspect_redis
from worker.queue import Queue, connect, job_queue_of
from worker.queue.heartbeats import WorkerInfo
from worker.queue.stream import ALONE_FROM, ENDED_ITS_READERS, GIVEN_UP_FROM, TOO_LARGE
from worker.upload_ids import default_id

STREAM = "media:uploads"
LARGEST = 256 * 1024
CAT, DOG = "uploads/cat.jpg", "uploads/dog.jpg"


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    """A queue that reads replies of a quarter of a MiB."""
    redis = connect(server.url, job_queue_of(STREAM), largest_reply=LARGEST)
    await redis.flushdb()
    yield Queue(redis, STREAM, "me", 1000)
    await redis.aclose(close_connection_pool=True)


async def state(catalog: Catalog, source: str) -> State | None:
    upload = await catalog.reports.find(default_id(source))
    return upload.state if upload else None


async def die_reading(queue: Queue, times: int) -> None:
    """Have workers read what is in the stream, all of them together first, and end before they record it."""
    for number in range(times):
        reader = Queue(queue.redis, STREAM, f"dead {number}", 1000).stream
        await reader.take_over(0, 10) if number else await reader.read(10, None)


async def live(queue: Queue, reader: Queue) -> None:
    """Have the heartbeat of that reader come, as while it waits for the catalog."""
    who = WorkerInfo(consumer=reader.consumer)
    await queue.heartbeats.beat(reader.consumer, "0", healthy=False, expiry_s=60, info=who)


async def add_large(queue: Queue, fields: int = 40) -> str:
    """An entry of many fields, each of which Redis takes."""
    entry_id = await queue.redis.xadd(STREAM, {f"f{number}": b"x" * 10_000 for number in range(fields)})
    return str(entry_id, "ascii")


@pytest.fixture
async def group(queue: Queue) -> None:
    await queue.stream.make_group()


# -- entries that end their readers


@pytest.mark.usefixtures("group")
async def test_entries_are_claimed_together_until_their_readers_have_died_twice(queue: Queue) -> None:
    for source in (CAT, DOG):
        await queue.stream.add({"source": source})
    counts = []
    for number in range(ALONE_FROM):
        reader = Queue(queue.redis, STREAM, f"dead {number}", 1000).stream
        counts.append(len(await reader.take_over(0, 10) if number else await reader.read(10, None)))

    assert counts == [2, 2, 1]


@pytest.mark.usefixtures("group")
async def test_an_entry_that_ended_four_readers_is_a_letter_without_its_bytes(
    queue: Queue, catalog: Catalog
) -> None:
    entry_id = await queue.stream.add({"source": CAT})
    await die_reading(queue, GIVEN_UP_FROM - 1)
    [unread] = await queue.stream.take_over(0, 10)
    await intake_on(queue, catalog)._recorder.record([unread])
    await queue.stream.acknowledge([unread])

    [letter] = await catalog.dead_letters.newest(9)
    assert (letter.stream_id, letter.message, letter.body) == (entry_id, ENDED_ITS_READERS, b"")
    assert not has_event(letter)
    assert await queue.stream.depth() == 0


@pytest.mark.usefixtures("group")
async def test_an_intake_gives_up_the_poison_and_takes_what_was_read_with_it(
    queue: Queue, catalog: Catalog
) -> None:
    await queue.stream.add({"source": CAT})
    await queue.stream.add({"source": DOG})
    await die_reading(queue, GIVEN_UP_FROM)  # the first entry alone from the third on
    intake = intake_on(queue, catalog)
    await intake.join()
    await intake.drain_all()

    assert [letter.message for letter in await catalog.dead_letters.newest(9)] == [ENDED_ITS_READERS]
    assert await state(catalog, CAT) is None
    assert await state(catalog, DOG) is State.QUEUED


@pytest.mark.usefixtures("group")
async def test_the_first_read_after_a_death_takes_one_entry_and_the_next_a_batch(
    queue: Queue, catalog: Catalog
) -> None:
    await queue.stream.add({"source": CAT})
    await die_reading(queue, 1)
    for number in range(5):
        await queue.stream.add({"source": f"uploads/{number}.jpg"})
    intake = intake_on(queue, catalog)
    await intake.join()

    assert [await intake.step(None) for _ in range(3)] == [1, 4, 0]


@pytest.mark.usefixtures("group")
async def test_a_worker_that_is_alone_reads_a_batch_at_once(queue: Queue, catalog: Catalog) -> None:
    for number in range(5):
        await queue.stream.add({"source": f"uploads/{number}.jpg"})
    intake = intake_on(queue, catalog)
    await intake.join()

    assert await intake.step(None) == 5


@pytest.mark.usefixtures("group")
async def test_reads_while_the_catalog_is_away_give_no_entry_up(
    queue: Queue, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.stream.add({"source": CAT})
    intake = intake_on(queue, catalog)
    await intake.join()

    async def away(*_: object, **__: object) -> None:
        raise CatalogUnavailable("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(catalog.intake, "take", away)
        for _ in range(2 * GIVEN_UP_FROM):
            with pytest.raises(CatalogUnavailable):
                await intake.step(None)
    await Queue(queue.redis, STREAM, "other", 1000).stream.take_over(0, 10)
    [pending] = await queue.stream.pending_elsewhere(1)

    assert pending.reads < ALONE_FROM


@pytest.mark.usefixtures("group")
async def test_entries_that_an_older_worker_read_again_and_again_are_read_before_they_are_given_up(
    queue: Queue, catalog: Catalog
) -> None:
    for source in (CAT, DOG):
        await queue.stream.add({"source": source})
    older = Queue(queue.redis, STREAM, "older", 1000).stream
    await older.read(10, None)
    for _ in range(2 * GIVEN_UP_FROM):  # in an outage of the catalog, and then it was killed
        await older.read_own(10)
    intake = intake_on(queue, catalog)
    await intake.join()
    await intake.drain_all()

    assert await catalog.dead_letters.newest(9) == []
    assert {await state(catalog, source) for source in (CAT, DOG)} == {State.QUEUED}


@pytest.mark.usefixtures("group")
async def test_an_entry_is_left_to_a_reader_that_took_it_alone_and_lives(queue: Queue) -> None:
    await queue.stream.add({"source": CAT})
    await die_reading(queue, ALONE_FROM - 1)
    reader = Queue(queue.redis, STREAM, "reader", 1000)
    assert len(await reader.stream.take_over(0, 10)) == 1
    await live(queue, reader)

    assert await queue.stream.take_over(0, 10) == []
    await queue.heartbeats.end(reader.consumer)
    [entry] = await queue.stream.take_over(0, 10)
    assert entry.unread is None


@pytest.mark.usefixtures("group")
async def test_living_workers_that_claim_an_entry_in_turn_have_it_given_up_by_none(queue: Queue) -> None:
    await queue.stream.add({"source": CAT})
    for number in range(2 * GIVEN_UP_FROM):
        reader = Queue(queue.redis, STREAM, f"reader {number}", 1000)
        found = await reader.stream.take_over(0, 10) if number else await reader.stream.read(10, None)
        await live(queue, reader)

        assert [entry.unread for entry in found] in ([None], [])


@pytest.mark.usefixtures("group")
async def test_a_worker_that_stops_leaves_its_entries_as_if_nobody_had_read_them(queue: Queue) -> None:
    await queue.stream.add({"source": CAT})
    await die_reading(queue, GIVEN_UP_FROM - 2)
    for number in range(GIVEN_UP_FROM):
        stopping = Queue(queue.redis, STREAM, f"stopping {number}", 1000).stream
        [entry] = await stopping.take_over(0, 10)
        if entry.unread:
            break
        await stopping.leave()

    assert entry.unread is None


# -- entries that are too large to be read


async def test_a_reply_that_is_too_large_is_an_error_and_the_next_one_is_read(queue: Queue) -> None:
    await queue.redis.set("large", b"x" * 2 * LARGEST)
    with pytest.raises(RedisError, match="larger than"):
        await queue.redis.get("large")
    with pytest.raises(RedisError, match="larger than"):
        await queue.redis.mget(["large"])

    await queue.redis.set("small", b"x")
    assert await queue.redis.get("small") == b"x"


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("count", [1, 40], ids=["alone", "in a batch"])
async def test_an_entry_beyond_the_bound_is_a_letter_and_its_neighbours_are_taken(
    queue: Queue, catalog: Catalog, count: int
) -> None:
    before = [f"uploads/{number}.jpg" for number in range(count)]
    for source in before:
        await queue.stream.add({"source": source})
    large = [await add_large(queue), await add_large(queue)]
    await queue.stream.add({"source": DOG})
    intake = intake_on(queue, catalog)
    await intake.join()
    await intake.drain_all()

    letters = await catalog.dead_letters.newest(9)
    assert [(one.stream_id, one.message, one.body) for one in letters] == [
        (entry_id, TOO_LARGE, b"") for entry_id in reversed(large)
    ]
    assert {await state(catalog, source) for source in (*before, DOG)} == {State.QUEUED}


@pytest.mark.usefixtures("group")
async def test_entries_that_are_too_large_together_are_taken_one_by_one(
    queue: Queue, catalog: Catalog
) -> None:
    for _ in range(5):
        await add_large(queue, fields=12)
    await queue.stream.add({"source": DOG})
    intake = intake_on(queue, catalog)
    await intake.join()
    await intake.drain_all()

    assert {one.message for one in await catalog.dead_letters.newest(9)} == {
        "the entry has no field named event"
    }
    assert await state(catalog, DOG) is State.QUEUED


@pytest.mark.usefixtures("group")
async def test_a_dead_workers_entry_beyond_the_bound_is_a_letter_too(queue: Queue, catalog: Catalog) -> None:
    await queue.stream.add({"source": CAT})
    await add_large(queue)
    await die_reading(queue, 1)
    await queue.stream.add({"source": DOG})
    intake = intake_on(queue, catalog)
    await intake.join()
    await intake.drain_all()

    assert [one.message for one in await catalog.dead_letters.newest(9)] == [TOO_LARGE]
    assert {await state(catalog, source) for source in (CAT, DOG)} == {State.QUEUED}


@pytest.mark.usefixtures("group")
async def test_an_entry_beyond_the_bound_hides_neither_its_age_nor_the_newest_id(queue: Queue) -> None:
    first, last = await add_large(queue), await add_large(queue)

    assert (await queue.stream.oldest_id(), await queue.stream.last_id()) == (first, last)
    assert (await queue.stream.waits()).startswith("2 events wait, the oldest for")
    assert all(found.level != "error" for found in inspect_redis(await queue.server.info()))
