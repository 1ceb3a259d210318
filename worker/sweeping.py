"""The sweep as a worker and a script run it: with this installation's stores, rules and queue."""

from collections.abc import Sequence
from uuid import UUID

from pipelines.sweep.chores import Sweeper
from storage.blobs import Blobs
from storage.catalog import Catalog
from worker.intake import new_ticket
from worker.queue import Queue
from worker.settings import Settings

IDS_A_JOB = 8


def sweeper_of(settings: Settings, catalog: Catalog, blobs: Blobs, queue: Queue) -> Sweeper:
    """A sweeper that has missing variants made again through `queue`."""

    async def requeue(upload_ids: Sequence[UUID]) -> int:
        tickets = await catalog.sweeps.remake(upload_ids, per_ticket=IDS_A_JOB, new_ticket=new_ticket)
        await queue.enqueue(tickets)
        return sum(len(ids) for ids in tickets.values())

    return Sweeper(
        blobs=blobs,
        sweeps=catalog.sweeps,
        holder=queue.consumer,
        grace_s=settings.grace,
        retention_s=settings.retention,
        requeue=requeue,
    )
