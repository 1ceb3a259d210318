"""A host whose clock is wrong shares a catalog in Postgres: times of others are judged by its server's clock.

Files lie on this machine, whose clock is right, as the server's is.
"""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy import select

from pipelines.stats.growth import DAY_MS
from pipelines.stats.snapshots import keep_snapshot
from pipelines.sweep.planning import make_plan
from scripts.redis_server import RedisServer
from scripts.storage_stats import scanned
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog
from storage.catalog.tables import snapshots
from tests.support.host_clock import Clock
from tests.support.sweeps import put
from worker import tasks
from worker.adoption import ADOPTION, Adoption, Listing, listing_of
from worker.health import check_jobs
from worker.publisher import go_on_above
from worker.queue import Queue, connect, job_queue_of
from worker.settings import Settings
from worker.sweeping import sweep_by_itself, sweeper_of

AN_HOUR_S, A_DAY_S = 3600.0, 86_400.0
STREAM = "media:uploads"


@pytest.fixture
def database_kind() -> str:
    return "postgres"


@pytest.fixture
def put_clock(put_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The same, also for who asks `time.time`, and for arq."""
    right = time.time_ns

    def put(seconds: float) -> None:
        put_clock(seconds)
        monkeypatch.setattr(time, "time", lambda: right() / 1e9 + seconds)
        monkeypatch.setattr("arq.utils.time", lambda: right() / 1e9 + seconds)

    return put


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    redis = connect(server.url, job_queue_of(STREAM))
    await redis.flushall()
    yield Queue(redis, STREAM, "me", 1000)
    await redis.aclose(close_connection_pool=True)


async def test_messages_are_numbered_above_all_that_was_counted_by_a_host_that_is_behind(
    catalog: Catalog, queue: Queue, put_clock: Clock
) -> None:
    before = catalog.database.now_ms()
    put_clock(-AN_HOUR_S)
    raised = await go_on_above(catalog.outbox, queue, rebuilt=True)

    assert raised is not None
    assert before <= raised <= catalog.database.now_ms()


async def test_the_pause_after_a_listing_is_not_over_earlier_on_a_host_that_is_ahead(
    catalog: Catalog, local_blobs: LocalBlobs, queue: Queue, put_clock: Clock
) -> None:
    await put(local_blobs, "uploads/cat.jpg")
    done = Listing(finished_ms=catalog.database.now_ms())
    await catalog.checkpoint(ADOPTION).save(done)
    put_clock(2 * AN_HOUR_S)

    assert await Adoption(local_blobs, catalog, grace_s=-1).tick("report", pause_s=AN_HOUR_S) == 0
    assert await listing_of(catalog, ADOPTION) == done


@pytest.mark.parametrize("ahead_s", [-AN_HOUR_S, AN_HOUR_S])
async def test_a_job_in_the_queue_of_a_worker_with_another_clock_is_alive_and_stays_as_it_is(
    queue: Queue, put_clock: Clock, ahead_s: float
) -> None:
    other = Queue(queue.redis, STREAM, "other", 1000, instance="elsewhere:1:abc")
    job_id = uuid4().hex
    put_clock(ahead_s)
    await other.heartbeats.beat("elsewhere:1:abc", "", healthy=True, expiry_s=60)
    await other.jobs.enqueue({job_id: [uuid4()]})
    due_ms = await queue.redis.zscore(other.jobs.key, job_id)
    put_clock(0)

    alive = await queue.jobs.alive([job_id])
    await queue.jobs.pull_in()

    assert alive == {job_id}
    assert await queue.redis.zscore(other.jobs.key, job_id) == due_ms


async def test_a_job_that_was_put_far_off_by_a_clock_that_is_right_again_is_gone(
    queue: Queue, put_clock: Clock
) -> None:
    other = Queue(queue.redis, STREAM, "other", 1000, instance="elsewhere:1:abc")
    job_id = uuid4().hex
    put_clock(AN_HOUR_S)
    await other.jobs.enqueue({job_id: [uuid4()]})
    put_clock(0)
    await other.heartbeats.beat("elsewhere:1:abc", "", healthy=True, expiry_s=60)

    assert await queue.jobs.alive([job_id]) == set()


async def test_a_host_that_is_ahead_does_not_take_the_jobs_of_others_for_overdue(
    queue: Queue, put_clock: Clock
) -> None:
    await queue.jobs.enqueue({uuid4().hex: [uuid4()]})
    put_clock(AN_HOUR_S)

    assert await check_jobs(queue, lambda: True)() is None


@pytest.mark.parametrize("ahead_s", [-AN_HOUR_S, AN_HOUR_S])
async def test_the_end_of_a_listing_is_noted_by_the_servers_clock(
    catalog: Catalog, local_blobs: LocalBlobs, queue: Queue, put_clock: Clock, ahead_s: float
) -> None:
    await put(local_blobs, "uploads/cat.jpg")
    put_clock(ahead_s)
    adoption = Adoption(local_blobs, catalog, grace_s=60)
    page = await adoption.page("")
    await adoption.tick("report")

    assert (page.names, page.unknown) == (1, [])  # it is young
    finished_ms = (await listing_of(catalog, ADOPTION)).finished_ms
    assert finished_ms == pytest.approx(catalog.database.now_ms(), abs=60_000)


async def test_a_sweep_on_a_host_that_is_ahead_takes_no_young_file_for_an_orphan(
    catalog: Catalog, local_blobs: LocalBlobs, queue: Queue, put_clock: Clock
) -> None:
    await local_blobs.bind(catalog.id, catalog_is_new=True)
    await put(local_blobs)
    put_clock(2 * AN_HOUR_S)
    plan = await make_plan(sweeper_of(Settings(grace=3600), catalog, local_blobs))

    assert (plan.files, plan.counts) == (1, {})


async def test_a_report_of_a_host_that_is_ahead_counts_a_young_file_as_such(
    catalog: Catalog, catalog_url: str, local_blobs: LocalBlobs, root: Path, put_clock: Clock
) -> None:
    await local_blobs.bind(catalog.id, catalog_is_new=True)
    await put(local_blobs)
    put_clock(2 * AN_HOUR_S)
    drift = await scanned(Settings(catalog_url=catalog_url, storage_url=f"file:{root}", grace=3600))

    assert (drift.findings["young"].count, drift.findings["orphan"].count) == (1, 0)


@pytest.mark.parametrize("ahead_s", [-AN_HOUR_S, AN_HOUR_S])
async def test_a_sweep_that_goes_on_at_a_host_with_another_clock_is_not_planned_again(
    catalog: Catalog, local_blobs: LocalBlobs, queue: Queue, put_clock: Clock, ahead_s: float
) -> None:
    await local_blobs.bind(catalog.id, catalog_is_new=True)
    put_clock(ahead_s)
    enqueued = datetime.fromtimestamp(time.time(), UTC)
    await tasks.sweep({"app": SimpleNamespace(queue=queue, catalog=catalog), "enqueue_time": enqueued})
    [job] = await queue.redis.queued_jobs(queue_name=queue.jobs.key)
    [since_ms] = job.args
    plans = []
    for seconds in (0, ahead_s):
        put_clock(seconds)
        sweeper = sweeper_of(Settings(), catalog, local_blobs)
        await sweep_by_itself(sweeper, catalog, queue, apply=False, since_ms=since_ms)
        plans.append(await catalog.sweeps.last())

    assert plans[0] == plans[1] is not None


@pytest.mark.parametrize("ahead_s", [-A_DAY_S, A_DAY_S])
async def test_the_totals_of_a_day_are_saved_under_the_servers_day(
    catalog: Catalog, local_blobs: LocalBlobs, put_clock: Clock, ahead_s: float
) -> None:
    days = [catalog.database.now_ms() // DAY_MS]
    put_clock(ahead_s)
    await keep_snapshot(catalog, local_blobs)
    days.append(catalog.database.now_ms() // DAY_MS)
    async with catalog.database.reading() as connection:
        [saved] = (await connection.execute(select(snapshots.c.day))).scalars()

    assert saved in days
