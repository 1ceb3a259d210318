"""The sweep as a worker and a script run it: with this installation's stores, rules and queue."""

from collections.abc import Sequence
from uuid import UUID

from pipelines.sweep.sweeper import Sweeper
from storage.blobs import Blobs
from storage.catalog import Catalog
from storage.catalog.facts import State
from worker.intake import new_ticket
from worker.queue import Queue
from worker.settings import Settings

IDS_A_JOB = 8
REBUILD = "rebuild"  # the walk that gives a root to a new catalog


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


async def forbidden(catalog: Catalog) -> str | None:
    """Why nothing may be deleted now: a rebuild is not over before its originals are done with."""
    walk = await catalog.walks.at(REBUILD)
    if not walk.begun:
        return None
    states = await catalog.reports.states()
    waiting = states[State.QUEUED] + states[State.PROCESSING]
    if walk.finished_ms and not waiting:
        return None
    return f"a rebuild is under way, and {waiting} uploads still wait"
