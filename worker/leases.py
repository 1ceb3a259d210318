"""Leases and the reconciler: a running job renews its lock, and uploads whose job is gone are requeued."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress

import structlog

from pipelines.formats import MIB
from pipelines.metrics import NO_METRICS, Metrics
from pipelines.poison import POISON_KEPT_MS
from storage.catalog.opening import Catalog
from storage.catalog.records import StalledUpload
from storage.catalog.requeuer import Requeuer
from storage.errors import CatalogDamaged, CatalogUnavailable
from worker.publisher import OutboxPublisher
from worker.queue import Queue, QueueUnavailable
from worker.queue.corrupt_jobs import LONGEST_LOCK_MS

log = structlog.get_logger(__name__)

ROWS_A_TICK = 1000
_PAGES_A_TICK = 20  # of so many rows
KEEP_MESSAGES_MS = 7 * 24 * 3600 * 1000
KEEP_MARKS_MS = 7 * 24 * 3600 * 1000  # longer than any worker works on an upload
KEEP_TOMBSTONES_S = 7 * 24 * 3600  # of ids that never had an upload, unless a setting says otherwise
KEEP_DEAD_LETTERS_MS = 30 * 24 * 3600 * 1000
KEEP_OWNER_COSTS_MS = 30 * 24 * 3600 * 1000
_UNSENT_AFTER_MS = 2_000  # a younger message is still being sent by its worker
_GONE_AFTER_S = 3600  # without a command of that consumer


@asynccontextmanager
async def lock_renewed(
    queue: Queue, job_id: str, lease_s: float, metrics: Metrics = NO_METRICS
) -> AsyncIterator[None]:
    """Renew the job's lock while the body runs, so that the lock expires soon after its worker dies."""
    if not queue.jobs.has_just_begun(job_id):
        with suppress(QueueUnavailable):  # arq would drop the job; the next renewal tries again
            await queue.jobs.renew(job_id, lease_s)
    renewal = asyncio.create_task(_renew(queue, job_id, lease_s, metrics))
    try:
        yield
    finally:
        renewal.cancel()
        with suppress(asyncio.CancelledError):
            await renewal


async def _renew(queue: Queue, job_id: str, lease_s: float, metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(lease_s / 3)
        try:
            if not await queue.jobs.renew(job_id, lease_s):
                metrics.recovered("lease_lost")
                log.warning("lease_lost", job_id=job_id)  # the claims fence off what this worker still writes
                return
        except QueueUnavailable as error:
            log.warning("lease_not_renewed", job_id=job_id, reason=str(error))


async def reconcile(
    queue: Queue,
    catalog: Catalog,
    publisher: OutboxPublisher,
    *,
    lease_s: float,
    retention_s: float = KEEP_TOMBSTONES_S,
    unsent_ms: int | None = None,
    metrics: Metrics = NO_METRICS,
    on_parked: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Park uploads whose job is gone, publish unsent messages, prune old records.

    Messages younger than the lease (or than `unsent_ms`) are left to the worker that wrote them. `on_parked`
    is called once uploads wait for a new job.

    Returns how many uploads were requeued.

    Raises: QueueUnavailable, CatalogUnavailable; the next run does the rest.
    """
    await take_over_jobs(queue)
    await queue.jobs.pull_in()
    if gone := await _stalled(queue, catalog.requeuer, lease_s):
        await _requeue(catalog.requeuer, gone)
        await queue.jobs.discard(sorted({upload.job_id for upload in gone}))
        metrics.recovered("requeued", len(gone))
        log.info("uploads_requeued", uploads=len(gone))
        if on_parked is not None:
            await on_parked()
    on_its_way_ms = max(_UNSENT_AFTER_MS, int(lease_s * 1000)) if unsent_ms is None else unsent_ms

    async def send_unsent() -> None:
        if unsent := await catalog.outbox.unsent(older_than_ms=on_its_way_ms):
            await publisher.send(unsent)
            metrics.recovered("resent", len(unsent))

    now_ms = catalog.database.now_ms
    await _each(
        catalog.parking.put_back,
        send_unsent,
        lambda: catalog.outbox.prune(now_ms() - KEEP_MESSAGES_MS),
        lambda: catalog.webhooks.prune(now_ms() - KEEP_MESSAGES_MS),
        lambda: _forget_endpoints(catalog),
        lambda: catalog.poison.prune(now_ms() - POISON_KEPT_MS),
        catalog.sweeps.clear_abandoned_marks,
        lambda: catalog.sweeps.prune_marks(now_ms() - KEEP_MARKS_MS),
        lambda: catalog.dead_letters.prune(now_ms() - KEEP_DEAD_LETTERS_MS),
        lambda: catalog.owner_costs.prune(now_ms() - KEEP_OWNER_COSTS_MS),
        catalog.owner_uses.prune,
        lambda: catalog.tombstones.prune_unseen(now_ms() - int(retention_s * 1000)),
        lambda: _bound(catalog),
        lambda: queue.stream.forget_consumers(_GONE_AFTER_S * 1000),
    )
    return len(gone)


async def _stalled(queue: Queue, requeuer: Requeuer, lease_s: float) -> Sequence[StalledUpload]:
    """The oldest overdue uploads whose job is gone, about as many as a tick requeues.

    Those that only wait for their turn are passed over. Behind very many of them a stalled one waits as well,
    as it would with a job.
    """
    longest_ms = max(LONGEST_LOCK_MS, int(4 * lease_s * 1000))
    gone: list[StalledUpload] = []
    async with aclosing(requeuer.all_overdue(int(lease_s * 1000), ROWS_A_TICK)) as pages:
        left = _PAGES_A_TICK
        async for page in pages:
            alive = await queue.jobs.alive(sorted({upload.job_id for upload in page}), longest_ms)
            gone += [upload for upload in page if upload.job_id not in alive]
            left -= 1
            if len(gone) >= ROWS_A_TICK or not left:
                break
    return gone


async def take_over_jobs(queue: Queue, *, everything: bool = False) -> None:
    """Take over the jobs of workers that are gone; in a burst those of living ones, too."""
    if removed := await queue.jobs.queues.take_over(everything=everything):
        log.warning("corrupt_jobs_removed", count=removed)


async def remove_corrupt_jobs(queue: Queue, *, head: bool = False) -> None:
    """Remove from the own queue what would end or hold up this worker; `head`: where arq looks."""
    if removed := await queue.jobs.queues.remove_corrupt(head=head):
        log.warning("corrupt_jobs_removed", count=removed)


async def _requeue(requeuer: Requeuer, gone: Sequence[StalledUpload]) -> None:
    try:
        await requeuer.requeue_stalled(gone)
    except CatalogDamaged as error:
        log.error("uploads_not_requeued", reason=str(error))  # noqa: TRY400 (the reason says it all)
    else:
        return
    for upload in gone:  # one by one, so that a damaged row does not stop the others
        with suppress(CatalogDamaged):
            await requeuer.requeue_stalled([upload])


async def _forget_endpoints(catalog: Catalog) -> None:
    """Forget endpoints of webhooks that were taken out of the settings, once no message of theirs is left."""
    for name in await catalog.webhooks.forget_unused(catalog.database.now_ms() - KEEP_MESSAGES_MS):
        log.info("webhooks_forgotten", endpoint=name)


async def _bound(catalog: Catalog) -> None:
    """Keep the catalog's file small: prune surplus dead letters, and return free pages to the file system."""
    if gone := await catalog.dead_letters.prune_surplus():
        log.warning(
            "dead_letters_forgotten", count=gone, reason="there are too many; see `media failed list`"
        )
    if freed := await catalog.database.compact():
        log.info("catalog_rewritten", mib_freed=freed // MIB)
    if problem := catalog.database.large_log():
        log.warning("catalog_log_large", reason=problem)


async def _each(*steps: Callable[[], Awaitable[object]]) -> None:
    """Run every step, also after one that failed: the next run may fail there again.

    Raises: CatalogUnavailable, QueueUnavailable at the end, the first there was.
    """
    errors = []
    for step in steps:
        try:
            await step()
        except (CatalogUnavailable, QueueUnavailable) as error:
            errors.append(error)
    if errors:
        raise errors[0]
