"""A clock that leaps ahead, or is put back: work goes on as if nothing had happened."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from arq.worker import Worker, func

from scripts.redis_server import RedisServer
from storage.catalog.clock import SKEW_MS, now_ms
from storage.catalog.intake import admit_none
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.catalogs import (
    CAT,
    SOURCE,
    claim,
    commit,
    delete_event,
    dispatch,
    key,
    letter,
    postponed,
    ready,
    take,
    try_claim,
    upload,
    upload_event,
)
from tests.support.host_clock import Clock
from tests.support.intakes import intake_on
from worker import leases
from worker.main import worker_settings
from worker.publisher import OutboxPublisher
from worker.queue import Queue, connect, job_queue_of
from worker.settings import Settings
from worker.tasks import process_batch

AN_HOUR_S, THREE_DAYS_S, SINCE_1970_S = 3600.0, 3 * 24 * 3600.0, 56 * 365 * 24 * 3600.0
STREAM = "media:uploads"


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    redis = connect(server.url, job_queue_of(STREAM))
    await redis.flushall()
    queue = Queue(redis, STREAM, "me", 1000)
    await queue.stream.make_group()
    yield queue
    await redis.aclose(close_connection_pool=True)


# -- periodic tasks


async def periodic_tasks_after(queue: Queue, put_clock: Clock, seconds: float) -> list[str]:
    """The periodic tasks that a worker enqueues in a minute of heartbeats, after a step of its clock."""
    jobs = worker_settings(Settings(reconcile_interval=15))["cron_jobs"]
    worker = Worker(
        [func(process_batch, name="work")],
        queue_name=queue.jobs.key,
        cron_jobs=jobs,
        redis_pool=queue.redis,
        handle_signals=False,
    )
    began = datetime.now(UTC)
    await worker.run_cron(began, 0.5)
    for beat in range(1, 61):
        put_clock(seconds + beat)
        await worker.run_cron(began + timedelta(seconds=seconds + beat), 0.5)
    return [job.decode().partition(":")[0] for job in await queue.redis.zrange(queue.jobs.key, 0, -1)]


@pytest.mark.parametrize("seconds", [0, THREE_DAYS_S, -AN_HOUR_S, -SINCE_1970_S])
async def test_a_periodic_task_comes_at_its_pace_after_every_step_of_the_clock(
    queue: Queue, put_clock: Clock, seconds: float
) -> None:
    found = await periodic_tasks_after(queue, put_clock, seconds)

    assert 4 <= found.count("reconcile") <= 5
    assert 4 <= found.count("adopt") <= 5
    assert found.count("snapshot") <= 2


# -- uploads that wait


async def reconciled(queue: Queue, catalog: Catalog) -> int:
    return await leases.reconcile(queue, catalog, OutboxPublisher(catalog.outbox, queue), lease_s=1)


async def in_the_queue(queue: Queue) -> list[Any]:
    due = await queue.redis.zrangebyscore(queue.jobs.key, "-inf", now_ms() + 1000)
    return list(due)


@pytest.mark.parametrize("ahead_s", [AN_HOUR_S, 90.0, SINCE_1970_S])
@pytest.mark.parametrize("lost", [True, False], ids=["the job is lost", "the job lies ahead"])
async def test_an_upload_that_was_queued_before_the_clock_was_put_back_is_worked_on_at_once(
    queue: Queue, catalog: Catalog, put_clock: Clock, ahead_s: float, *, lost: bool
) -> None:
    put_clock(ahead_s)
    taken = await take(catalog, upload_event(1))
    await queue.jobs.enqueue(taken.jobs)
    [job_id] = taken.jobs
    if lost:
        await queue.jobs.discard([job_id])
    else:
        await queue.redis.zadd(queue.jobs.key, {job_id: now_ms()})
    put_clock(0)
    await reconciled(queue, catalog)

    [job_id] = [job.decode() for job in await in_the_queue(queue)] or await dispatch(catalog)
    assert await catalog.claims.claim(CAT, job_id, "worker") is not None


async def test_an_upload_that_was_parked_before_the_clock_was_put_back_waits_behind_no_later_one(
    queue: Queue, catalog: Catalog, put_clock: Clock
) -> None:
    put_clock(AN_HOUR_S)
    await catalog.intake.take([(upload_event(1), letter("1-0"))], [], admit=admit_none)
    put_clock(0)
    await reconciled(queue, catalog)
    put_clock(1)
    later = upload_event(2, uuid4(), SOURCE.replace("cat", "later"))
    await catalog.intake.take([(later, letter("2-0"))], [], admit=admit_none)

    [(_, owners)] = (await catalog.parking.take(dict.fromkeys(await catalog.parking.owners(), 1), 1)).items()
    assert list(owners) == [CAT]
    assert await catalog.parking.put_back() == 0


async def test_an_upload_whose_job_is_as_it_was_can_be_claimed_after_the_clock_was_put_back(
    catalog: Catalog, put_clock: Clock
) -> None:
    put_clock(AN_HOUR_S)
    [job_id] = (await take(catalog, upload_event(1))).jobs
    put_clock(0)

    assert await catalog.claims.claim(CAT, job_id, "worker") is not None


@pytest.mark.parametrize("ahead_s", [0.0, AN_HOUR_S])
async def test_an_upload_that_was_put_off_waits_unless_the_clock_was_put_back(
    queue: Queue, catalog: Catalog, put_clock: Clock, ahead_s: float
) -> None:
    put_clock(ahead_s)
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), 60_000))
    put_clock(0)

    assert await reconciled(queue, catalog) == (1 if ahead_s else 0)
    assert (await try_claim(catalog) is not None) is bool(ahead_s)


async def test_a_clock_that_is_a_little_off_changes_nothing(catalog: Catalog, put_clock: Clock) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), 60_000))
    put_clock(-SKEW_MS / 2000)

    assert await catalog.requeuer.overdue(0, 10) == []


async def test_whoever_died_with_an_upload_is_found_out_after_the_clock_was_put_back(
    queue: Queue, catalog: Catalog, put_clock: Clock
) -> None:
    put_clock(AN_HOUR_S)
    await take(catalog, upload_event(1))
    await claim(catalog, holder="dead")
    put_clock(0)

    assert await reconciled(queue, catalog) == 1


async def test_a_lock_that_lasts_an_hour_because_redis_clock_was_put_back_is_no_lease(
    queue: Queue, catalog: Catalog
) -> None:
    [job_id] = (await take(catalog, upload_event(1))).jobs
    await queue.redis.set(f"arq:in-progress:{job_id}", "dead", px=int(AN_HOUR_S * 1000))

    assert await queue.jobs.alive([job_id]) == frozenset()
    await queue.redis.set(f"arq:in-progress:{job_id}", "living", px=15_000)
    assert await queue.jobs.alive([job_id]) == {job_id}


def _made_later(dumped: bytes, ms: int) -> bytes:
    """A stream as DUMP gives it, with its checksum, whose entries were delivered that much later."""
    body, now = bytearray(dumped[:-8]), now_ms()
    for at in range(len(body) - 8):
        moment = int.from_bytes(body[at : at + 8], "little")
        if now - 60_000 < moment <= now:
            body[at : at + 8] = (moment + ms).to_bytes(8, "little")
    checksum = 0
    for byte in body:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x95AC9329AC4BC9B5 if checksum & 1 else 0)
    return bytes(body) + checksum.to_bytes(8, "little")


@pytest.mark.parametrize("ahead_ms", [0, int(AN_HOUR_S * 1000)])
async def test_entries_of_a_dead_worker_are_taken_over_though_redis_clock_was_put_back(
    queue: Queue, catalog: Catalog, ahead_ms: int
) -> None:
    await queue.stream.add({"source": SOURCE})
    await Queue(queue.redis, STREAM, "dead", 1000).stream.read(9, None)
    dumped: Any = await queue.redis.dump(STREAM)
    await queue.redis.restore(STREAM, 0, _made_later(dumped, ahead_ms), replace=True)
    intake = intake_on(queue, catalog)
    await intake.join()
    began = time.monotonic()
    while not await intake.step(50):
        assert time.monotonic() - began < 10

    assert (await upload(catalog)).state is State.QUEUED
    assert time.monotonic() - began > 0.5  # its lease is a second


async def test_jobs_far_ahead_are_made_due_and_those_that_are_put_off_stay(queue: Queue) -> None:
    now = time.time() * 1000
    await queue.redis.zadd(queue.jobs.key, {"lost": now + 3_600_000, "put off": now + 600_000, "due": now})
    await queue.jobs.pull_in()

    assert await in_the_queue(queue) == [b"due", b"lost"]


# -- messages, leases, sweeps


async def test_a_message_that_was_not_sent_before_the_clock_was_put_back_is_sent(
    catalog: Catalog, put_clock: Clock
) -> None:
    put_clock(AN_HOUR_S)
    await take(catalog, delete_event(1))
    put_clock(0)

    assert len(await catalog.outbox.unsent(older_than_ms=2000)) == 1


async def test_the_lease_of_a_dead_sweep_ends_in_its_time_though_the_clock_was_put_back(
    catalog: Catalog, put_clock: Clock
) -> None:
    put_clock(AN_HOUR_S)
    await catalog.sweeps.lease("dead", 30)
    put_clock(0)
    late = await catalog.sweeps.lease("living", 30)

    assert late
    assert not await catalog.sweeps.lease("third", 30)


async def test_a_file_that_was_moved_away_while_the_clock_was_put_back_is_published_again(
    catalog: Catalog, put_clock: Clock
) -> None:
    await take(catalog, upload_event(1))
    claimed = await claim(catalog)
    put_clock(-AN_HOUR_S)
    keys = [key(CAT, "a" * 64, name) for name in ("thumb", "large")]
    await catalog.sweeps.lease("sweep", 60)
    await catalog.sweeps.mark_for_deletion("sweep", keys)
    await catalog.sweeps.clear_marks("sweep", moved=keys, untouched=[])
    committed = await commit(catalog, ready(claimed))

    assert committed.state is State.QUEUED


async def test_a_file_that_was_moved_away_before_the_clock_was_put_back_stops_nobody(
    catalog: Catalog, put_clock: Clock
) -> None:
    put_clock(AN_HOUR_S)
    keys = [key(CAT, "a" * 64, name) for name in ("thumb", "large")]
    await catalog.sweeps.lease("sweep", 60)
    await catalog.sweeps.mark_for_deletion("sweep", keys)
    await catalog.sweeps.clear_marks("sweep", moved=keys, untouched=[])
    put_clock(0)
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))

    assert (await upload(catalog)).state is State.READY
