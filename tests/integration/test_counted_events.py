"""Metrics count what the intake took and refused, what was sent, and what the safety nets caught."""

import asyncio
from uuid import uuid4

from pipelines.metrics import Recovery
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog
from tests.support.catalogs import delete_event, take, upload_event
from tests.support.intakes import intake_on
from tests.support.metrics import RecordedMetrics
from worker import leases
from worker.adoption import Adoption
from worker.publisher import OutboxPublisher
from worker.queue import Queue


async def test_what_is_taken_and_what_is_refused_is_counted_apart(queue: Queue, catalog: Catalog) -> None:
    metrics = RecordedMetrics()
    intake = intake_on(queue, catalog, metrics=metrics)
    await intake.join()
    for source in ("uploads/a.jpg", "uploads/b.jpg", "elsewhere/c.jpg"):
        await queue.stream.add({"source": source})
    await intake.drain_all()

    assert metrics.events == {"accepted": 2, "invalid_event": 1}


async def test_messages_are_counted_once_they_are_sent(queue: Queue, catalog: Catalog) -> None:
    metrics = RecordedMetrics()
    intake = intake_on(queue, catalog)
    await intake.join()
    await queue.stream.add({"delete": "6f1c2a9e-0000-4000-8000-000000000000"})
    await intake.drain_all()
    unsent = await catalog.outbox.unsent(0, 10)
    publisher = OutboxPublisher(catalog.outbox, queue, metrics)

    assert metrics.messages == []
    await publisher.send(unsent)
    assert metrics.messages == ["upload.deleted"]


async def test_what_the_reconciler_puts_right_is_counted(queue: Queue, catalog: Catalog) -> None:
    metrics = RecordedMetrics()
    publisher = OutboxPublisher(catalog.outbox, queue)
    await queue.stream.make_group()
    await take(catalog, upload_event(1), delete_event(2, uuid4()))
    for _ in range(2):
        await leases.reconcile(queue, catalog, publisher, lease_s=-1, unsent_ms=-1, metrics=metrics)

    assert metrics.recoveries == {"requeued": 1, "resent": 1}


async def test_events_of_a_consumer_that_is_gone_are_counted_as_taken_over(
    queue: Queue, catalog: Catalog
) -> None:
    metrics = RecordedMetrics()
    intake = intake_on(queue, catalog, metrics=metrics)
    await intake.join()
    await queue.stream.add({"source": "uploads/a.jpg"})
    await Queue(queue.redis, "media:uploads", "another", 1000).stream.read(10, None)
    [entry] = await queue.redis.xpending_range("media:uploads", "workers", "-", "+", 1)
    await queue.redis.xclaim("media:uploads", "workers", "another", 0, [entry["message_id"]], idle=5000)
    await intake.step(None)

    assert metrics.recoveries == {"taken_over": 1}


async def test_a_lock_that_another_worker_has_by_now_is_counted(queue: Queue) -> None:
    lost = asyncio.Event()

    class LosingMetrics(RecordedMetrics):
        def recovered(self, kind: Recovery, count: int = 1) -> None:
            super().recovered(kind, count)
            lost.set()

    metrics = LosingMetrics()
    async with leases.lock_renewed(queue, "job", 0.03, metrics):
        await queue.redis.set("arq:in-progress:job", "another")
        await asyncio.wait_for(lost.wait(), 10)

    assert metrics.recoveries == {"lease_lost": 1}


async def test_originals_that_are_adopted_are_counted_and_parked(
    queue: Queue, catalog: Catalog, local_blobs: LocalBlobs
) -> None:
    metrics = RecordedMetrics()
    await local_blobs.store([("uploads/a.jpg", b"x"), ("uploads/b.jpg", b"x")])
    await Adoption(local_blobs, catalog, grace_s=-60, metrics=metrics).tick("enqueue")

    assert metrics.recoveries == {"adopted": 2}
    assert await catalog.parking.count("") == 2
    assert await queue.jobs.untaken_anywhere() == 0
