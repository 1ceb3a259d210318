"""The dispatcher: parked uploads come on jobs of this worker, in fair turns, and none is lost on the way."""

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer, temporary_redis
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.parking import OWNERS
from storage.catalog.records import StreamId, UploadRequested
from tests.conftest import url_of
from tests.support.catalogs import letter
from tests.support.damage import page_with, roots, settle, zero
from tests.support.polling import until
from worker.dispatcher import Dispatcher
from worker.leases import reconcile
from worker.places import PLACES, JobPlaces
from worker.publisher import OutboxPublisher
from worker.queue import Queue, QueueUnavailable, connect, job_queue_of, new_instance

_SPACE = UUID(int=7)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with temporary_redis() as found:
        yield found


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    instance = new_instance()
    redis = connect(server.url, job_queue_of("media:uploads", instance))
    yield Queue(redis, "media:uploads", "me", 1000, instance=instance)
    await redis.aclose(close_connection_pool=True)


class Dispatching:
    """A dispatcher with its places, and what it needs to be asked."""

    def __init__(self, queue: Queue, catalog: Catalog) -> None:
        self.queue, self.catalog = queue, catalog
        self.places = JobPlaces(4)
        self.used: dict[str, float] = {}
        self.paused = False
        self.stopping = asyncio.Event()
        self.dispatcher = Dispatcher(
            *(queue, catalog.parking, self.places, lambda owner, since: since + self.used.get(owner, 0.0)),
            is_paused=lambda: self.paused,
            stopping=self.stopping,
        )

    async def park(self, owner: str, count: int) -> None:
        """Record so many uploads of that owner without a job."""
        self.places.park({owner})
        await self.record(f"uploads/{owner}/{n}.jpg" for n in range(count))

    async def record(self, sources: Iterable[str]) -> None:
        events = [
            UploadRequested(StreamId(), uuid5(_SPACE, source), source, "default", adopted=True)
            for source in sources
        ]
        taken = [(event, letter("0-0")) for event in events]
        await self.catalog.intake.take(taken, [], epoch=0, same_stream=True, admit=_nobody)

    async def park_on(self, owner: str) -> None:
        """Park 100 more at a time, for ever, as a worker with more than it can do."""
        for first in itertools.count(step=100):
            await self.record(f"uploads/{owner}/{n}.jpg" for n in range(first, first + 100))

    async def jobs(self) -> int:
        """How many jobs are in the queue."""
        return len(await self.queue.jobs.due_here())


def _nobody(owners: Sequence[str]) -> Sequence[bool]:
    return [False] * len(owners)


@pytest.fixture
def dispatching(queue: Queue, catalog: Catalog) -> Dispatching:
    return Dispatching(queue, catalog)


async def test_one_owner_gets_half_of_the_places_and_others_the_rest(dispatching: Dispatching) -> None:
    await dispatching.park("greedy", 40)
    await dispatching.dispatcher.fill()
    alone = await dispatching.jobs()
    await dispatching.park("mia", 1)
    await dispatching.dispatcher.fill()

    assert (alone, await dispatching.jobs()) == (PLACES // 2, PLACES // 2 + 1)
    assert await dispatching.catalog.parking.owners() == ["greedy"]


async def test_nothing_is_dispatched_without_a_storage_or_while_it_stops(
    dispatching: Dispatching,
) -> None:
    await dispatching.park("mia", 1)
    dispatching.paused = True
    await dispatching.dispatcher.fill()
    paused = await dispatching.jobs()
    dispatching.paused = False
    dispatching.stopping.set()
    await dispatching.dispatcher.fill()

    assert (paused, await dispatching.jobs()) == (0, 0)


async def test_it_goes_on_when_a_job_ends_and_when_something_is_parked(dispatching: Dispatching) -> None:
    running = asyncio.create_task(dispatching.dispatcher.run())
    await dispatching.park("mia", 1)

    async def has_one_job() -> bool:
        return await dispatching.jobs() == 1

    await until(has_one_job)
    dispatching.stopping.set()
    dispatching.places.changed.set()
    await running


async def test_a_job_that_could_not_be_enqueued_is_requeued_by_the_reconciler(
    dispatching: Dispatching,
) -> None:
    await dispatching.park("mia", 3)
    await dispatching.queue.stream.make_group()
    await dispatching.queue.redis.config_set("maxmemory", 1)
    with pytest.raises(QueueUnavailable):
        await dispatching.dispatcher.fill()
    await dispatching.queue.redis.config_set("maxmemory", 0)
    publisher = OutboxPublisher(dispatching.catalog.outbox, dispatching.queue)

    assert await dispatching.catalog.parking.owners() == []
    assert await reconcile(dispatching.queue, dispatching.catalog, publisher, lease_s=0) == 3


async def test_a_burst_has_all_that_is_parked_dispatched_at_once(
    dispatching: Dispatching,
) -> None:
    await dispatching.park("greedy", 50)
    await dispatching.park("mia", 2)
    await dispatching.dispatcher.dispatch_all()

    assert await dispatching.catalog.parking.owners() == []
    assert await dispatching.jobs() == 14


async def test_a_burst_leaves_to_another_worker_what_that_parks_meanwhile(dispatching: Dispatching) -> None:
    await dispatching.park("old", 2)
    parking = asyncio.create_task(dispatching.park_on("new"))
    await until(lambda: _has(dispatching, "new"))
    async with asyncio.timeout(20):
        await dispatching.dispatcher.dispatch_all()
    parking.cancel()
    await asyncio.wait([parking])  # the catalog must not be closed under it

    assert await dispatching.jobs() > 0
    assert await dispatching.catalog.parking.owners() == ["new"]


async def _has(dispatching: Dispatching, owner: str) -> bool:
    return owner in await dispatching.catalog.parking.owners()


async def test_a_burst_that_is_to_stop_dispatches_no_more(dispatching: Dispatching) -> None:
    await dispatching.park("mia", 2)
    dispatching.stopping.set()
    await dispatching.dispatcher.dispatch_all()

    assert await dispatching.jobs() == 0


async def test_of_more_owners_than_are_told_at_once_the_one_that_waits_longest_goes_first(
    dispatching: Dispatching,
) -> None:
    await dispatching.record(["uploads/zoe/cat.jpg"])
    async with dispatching.catalog.database.writing() as connection:
        await connection.exec_driver_sql("UPDATE uploads SET queued_ms = queued_ms - 1000")
    await dispatching.record(f"uploads/{n:03}/cat.jpg" for n in range(OWNERS + 50))
    await dispatching.dispatcher.fill()

    assert await dispatching.catalog.parking.count("zoe") == 0
    assert await dispatching.jobs() == PLACES


async def test_very_many_owners_with_an_upload_each_all_get_their_turn(dispatching: Dispatching) -> None:
    await dispatching.record(f"uploads/{n:03}/cat.jpg" for n in range(2 * OWNERS + 10))
    rounds = 0
    while await dispatching.catalog.parking.owners():
        rounds += 1
        await dispatching.dispatcher.fill()
        for job_id in await dispatching.queue.jobs.due_here():
            with dispatching.places.running(job_id):
                await dispatching.queue.jobs.discard([job_id])

    assert rounds <= -(-(2 * OWNERS + 10) // (6 * 4)) + 2


async def test_what_a_worker_parks_itself_gets_its_job_at_once_and_all_of_it_in_a_burst(
    dispatching: Dispatching,
) -> None:
    await dispatching.dispatcher.fill()
    await dispatching.record(["uploads/mia/cat.jpg"])
    await dispatching.dispatcher.attend()
    woken = dispatching.places.changed.is_set()
    await dispatching.dispatcher.fill()
    alone = await dispatching.jobs()
    dispatching.places.admits_all = True
    await dispatching.record(f"uploads/greedy/{n}.jpg" for n in range(50))
    await dispatching.dispatcher.attend()

    assert (woken, alone, await dispatching.jobs()) == (True, 1, 14)


async def test_what_a_command_has_parked_is_found_within_a_second_and_more_of_it_sooner(
    dispatching: Dispatching,
) -> None:
    running = asyncio.create_task(dispatching.dispatcher.run())

    async def has_jobs(count: int) -> bool:
        return await dispatching.jobs() == count

    waits = []
    for number in range(1, 4):
        await dispatching.record([f"uploads/{number}/cat.jpg"])
        began = time.monotonic()
        await until(partial(has_jobs, number))
        waits.append(time.monotonic() - began)
    dispatching.stopping.set()
    dispatching.places.changed.set()
    await running

    assert waits[0] < 2
    assert max(waits[1:]) < 0.8


# -- a damaged page of the catalog


_OWNERS_APART = [f"{n:02}" for n in range(20)]
_ON_A_PAGE = 5  # of them at most


@pytest.fixture
async def damaged(queue: Queue, migrated: Path, tmp_path: Path) -> AsyncIterator[Dispatching]:
    """A catalog with parked uploads of several owners, of which one's are on a page that is lost."""
    path = Path(shutil.copy(migrated, tmp_path / "catalog.db"))
    async with open_catalog(url_of(path)) as catalog:
        for owner in _OWNERS_APART:
            await Dispatching(queue, catalog).park(owner, 20)
    settle(path)
    zero(path, page_with(path, "uploads/07/10.jpg"))
    async with open_catalog(url_of(path)) as catalog:
        yield Dispatching(queue, catalog)


async def test_a_damaged_page_keeps_the_uploads_of_no_other_owner_from_their_jobs(
    damaged: Dispatching,
) -> None:
    for _ in range(60):
        await damaged.dispatcher.fill()
        for job_id in await damaged.queue.jobs.due_here():
            with damaged.places.running(job_id):
                await damaged.queue.jobs.discard([job_id])

    left = await damaged.catalog.parking.owners()
    assert "07" in left
    assert len(left) <= _ON_A_PAGE


async def test_a_burst_dispatches_what_it_can_of_a_damaged_catalog(damaged: Dispatching) -> None:
    await damaged.dispatcher.dispatch_all()
    await damaged.dispatcher.dispatch_all()

    assert await damaged.jobs() >= 5 * (len(_OWNERS_APART) - _ON_A_PAGE)
    assert "07" in await damaged.catalog.parking.owners()
    assert "damaged" in (await damaged.catalog.database.problem() or "")


async def test_without_the_index_by_owner_uploads_are_found_by_their_age_and_a_burst_goes_on(
    queue: Queue, migrated: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(migrated, tmp_path / "catalog.db"))
    zero(path, roots(path)["uploads_parked"])
    async with open_catalog(url_of(path)) as catalog:
        dispatching = Dispatching(queue, catalog)
        with capture_logs() as logged:
            await dispatching.dispatcher.fill()
            await dispatching.dispatcher.dispatch_all()

    assert [line["event"] for line in logged] == ["parked_uploads_not_read"]
