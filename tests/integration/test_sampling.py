"""What a worker shows of queue, stock and room is what is there; what nobody can say is not shown."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipelines.sandbox import open_sandbox
from scripts.redis_server import temporary_redis
from storage.blobs.local import LocalBlobs
from storage.catalog.backup_notes import BackupMade, BackupNotes
from storage.catalog.opening import Catalog
from storage.totals import Count, Swept
from tests.support.catalogs import claim, commit, letter, ready, take, upload_event
from tests.support.exposed import families, value, values
from tests.support.sandboxes import allowance
from worker.metrics import WorkerMetrics
from worker.queue import Queue, connect, job_queue_of
from worker.sampling import STOCK_EVERY_S, Sampler
from worker.status import STALE_S


@pytest.fixture
def clock() -> list[float]:
    """The seconds of the clock by which what was sampled grows old."""
    return [0.0]


@pytest.fixture
def metrics(clock: list[float]) -> WorkerMetrics:
    return WorkerMetrics(clock=lambda: clock[0])


@pytest.fixture
async def sampler(
    metrics: WorkerMetrics, queue: Queue, catalog: Catalog, local_blobs: LocalBlobs
) -> AsyncIterator[Sampler]:
    async with open_sandbox(allowance()) as sandbox:
        yield Sampler(metrics, queue, catalog, local_blobs, sandbox)


async def test_the_queue_is_shown_with_its_depth_age_jobs_and_workers(
    sampler: Sampler, metrics: WorkerMetrics, queue: Queue, catalog: Catalog
) -> None:
    for entry in ("1000-1", "1000-2"):
        await queue.redis.xadd("media:uploads", {"event": "{}"}, id=entry)
    await queue.jobs.enqueue((await take(catalog, upload_event(1))).jobs)
    await queue.heartbeats.beat("one", "", healthy=True, expiry_s=10)
    await queue.heartbeats.beat("two", "no disk", healthy=False, expiry_s=10)
    await sampler.sample()

    shown = metrics.exposition()
    assert value(shown, "media_queue_events") == 2
    assert (value(shown, "media_queue_oldest_age_seconds") or 0) > 1e9
    assert values(shown, "media_queue_jobs") == {"waiting": 1, "running": 0, "postponed": 0}
    assert values(shown, "media_workers") == {"healthy": 1, "unhealthy": 1}


async def test_what_waits_for_its_owners_turn_counts_with_the_events(
    sampler: Sampler, metrics: WorkerMetrics, queue: Queue, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.redis.xadd("media:uploads", {"event": "{}"})
    event = upload_event(1)
    await catalog.intake.take(
        [(event, letter("1-0"))], [], epoch=0, same_stream=True, admit=lambda owners: [False] * len(owners)
    )
    now_ms = catalog.database.now_ms()
    monkeypatch.setattr(type(catalog.database), "now_ms", lambda _: now_ms + 90_000)
    await sampler.sample()

    shown = metrics.exposition()
    assert value(shown, "media_queue_events") == 2
    assert 90 <= (value(shown, "media_queue_oldest_age_seconds") or 0) < 100


async def test_the_stock_is_shown_as_the_catalog_has_it(
    sampler: Sampler, metrics: WorkerMetrics, catalog: Catalog
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    await sampler.sample()

    shown = metrics.exposition()
    totals = await catalog.reports.totals()
    assert values(shown, "media_stored_uploads") == {
        "ready": 1,
        **dict.fromkeys(("queued", "processing", "failed", "deleting", "deleted"), 0),
    }
    assert values(shown, "media_stored_bytes") == {
        "originals": totals.count("original").bytes,
        "variants": totals.count("variant").bytes,
        "superseded": 0,
    }
    assert totals.count("variant").bytes > 0


async def test_room_memory_and_cpu_are_shown(sampler: Sampler, metrics: WorkerMetrics) -> None:
    await sampler.sample()

    shown = metrics.exposition()
    size, free = (value(shown, f"media_storage_{name}_bytes") for name in ("size", "free"))
    assert size is not None
    assert free is not None
    assert 0 < free <= size
    assert all(memory > 5e6 for memory in values(shown, "media_memory_bytes").values())
    assert (value(shown, "media_decoder_cpu_seconds_total") or 0) > 0


async def test_what_the_last_sweep_found_is_shown_and_what_was_never_done_is_not(
    sampler: Sampler, metrics: WorkerMetrics, catalog: Catalog
) -> None:
    found = Swept("plan", 5_000, Count(9, 90), Count(8, 80), {"orphan": Count(1, 10)}, Count(3, 30))
    await catalog.sweeps.remember(found)
    await BackupNotes(catalog.database).note(BackupMade(7_000, "/backup", "copy", 1, 1))
    await sampler.sample()

    shown = metrics.exposition()
    assert values(shown, "media_drift_files")["orphan"] == 1
    assert values(shown, "media_drift_files")["missing"] == 0
    assert values(shown, "media_stored_bytes")["trash"] == 30
    assert values(shown, "media_last_success_timestamp_seconds") == {"sweep": 5, "backup": 7}


async def test_a_redis_that_is_away_hides_the_queue_and_nothing_else(
    sampler: Sampler, metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_redis() as server:
        redis = connect(server.url, job_queue_of("media:uploads"))
        monkeypatch.setattr(sampler, "_queue", Queue(redis, "media:uploads", "me", 1000))
        await sampler.sample()
        assert value(metrics.exposition(), "media_queue_events") == 0
    await sampler.sample()
    await redis.aclose(close_connection_pool=True)

    shown = metrics.exposition()
    assert value(shown, "media_queue_events") is None
    assert values(shown, "media_workers") == {}
    assert values(shown, "media_stored_uploads")["deleting"] == 0
    assert value(shown, "media_storage_free_bytes") is not None


async def test_what_a_hung_worker_has_sampled_is_hidden_after_a_minute_and_its_stock_after_two(
    sampler: Sampler, metrics: WorkerMetrics, clock: list[float]
) -> None:
    await sampler.sample()
    clock[0] = STALE_S
    after_one = families(metrics.exposition())
    clock[0] = STALE_S + STOCK_EVERY_S

    shown = families(metrics.exposition())
    sampled = ("queue_oldest_age_seconds", "queue_jobs", "workers", "memory_bytes")
    stock = ("stored_uploads", "stored_bytes", "storage_size_bytes", "storage_free_bytes")
    assert [after_one[f"media_{name}"].samples for name in sampled] == [[]] * 4
    assert all(after_one[f"media_{name}"].samples for name in stock)
    assert [shown[f"media_{name}"].samples for name in stock] == [[]] * 4


async def test_a_worker_that_ends_or_begins_anew_shows_nothing_that_is_old(
    sampler: Sampler, metrics: WorkerMetrics
) -> None:
    running = asyncio.create_task(sampler.run())
    async with asyncio.timeout(10):
        while value(metrics.exposition(), "media_storage_size_bytes") is None:  # noqa: ASYNC110 (no event tells)
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

    shown = families(metrics.exposition())
    names = ("queue_events", "stored_uploads", "storage_size_bytes", "memory_bytes")
    assert [shown[f"media_{name}"].samples for name in names] == [[]] * 4
