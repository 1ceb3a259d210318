"""An intake as the tests of the stream make one, without its worker."""

import asyncio

from pipelines.metrics import NO_METRICS, Metrics
from storage.catalog.opening import Catalog
from worker.intake import Intake
from worker.publisher import OutboxPublisher
from worker.questions import QuestionDesk
from worker.queue import Queue
from worker.recorder import Recorder

BACKLOG = 16


def intake_on(
    queue: Queue,
    catalog: Catalog,
    stopping: asyncio.Event | None = None,
    metrics: Metrics = NO_METRICS,
) -> Intake:
    """One that reads batches of 10, and stops reading while `BACKLOG` jobs wait."""
    recorder = Recorder(queue, catalog.intake, catalog.epochs, frozenset({"default"}), metrics)
    return Intake(
        queue,
        recorder,
        OutboxPublisher(catalog.outbox, queue, metrics),
        QuestionDesk(queue, catalog.questions, recorder.parse, metrics),
        batch_size=10,
        backlog=BACKLOG,
        lease_s=1,
        stopping=stopping or asyncio.Event(),
        metrics=metrics,
    )
