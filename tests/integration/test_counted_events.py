"""Metrics count what the intake took and refused, and what was sent."""

from storage.catalog.opening import Catalog
from tests.support.intakes import intake_on
from tests.support.metrics import RecordedMetrics
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
