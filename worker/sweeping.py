"""The sweep as a worker and a script run it: with this installation's stores, rules and queue."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import structlog

from pipelines.metrics import NO_METRICS, Metrics
from pipelines.reprocess import find_unmakable
from pipelines.sweep.applying import apply_plan
from pipelines.sweep.findings import Kind
from pipelines.sweep.plan import Plan, PlanUnknown, load
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper
from pipelines.sweep.trash import purge
from storage.blobs import Storage
from storage.catalog.clock import SKEW_MS, now_ms
from storage.catalog.database import check_schema
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.errors import StorageError
from worker.adoption import REBUILD
from worker.documents import sweep_stopped
from worker.queue import Queue, QueueUnavailable
from worker.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SweptInstallation:
    """The stores of this installation, as a sweep asks for them."""

    catalog: Catalog
    blobs: Storage
    is_stopping: Callable[[], bool]

    async def check(self) -> None:
        await self.blobs.bind(self.catalog.id, catalog_is_new=False)
        await check_schema(self.catalog.database)

    async def requeue(self, upload_ids: Sequence[UUID]) -> frozenset[UUID]:
        unmakable = await find_unmakable(upload_ids, self.catalog, self.blobs)
        for upload_id, reason in unmakable.items():
            log.warning("not_made_again", upload=str(upload_id), reason=f"its original: {reason}")
        makable = [upload_id for upload_id in upload_ids if upload_id not in unmakable]
        await self.catalog.requeuer.requeue(makable, State.READY)
        return frozenset(unmakable)

    async def requeue_damaged(self, damaged: Mapping[str, str]) -> int:
        return len(await self.catalog.requeuer.requeue_damaged(damaged))

    async def correct_totals(self) -> int:
        wrong = await self.catalog.reports.check_totals()
        await self.catalog.reports.correct(wrong)
        return len(wrong)


def sweeper_of(
    settings: Settings,
    catalog: Catalog,
    blobs: Storage,
    stopping: Callable[[], bool] = lambda: False,
) -> Sweeper:
    """A sweeper that queues missing variants, and pauses where `stopping`."""
    return Sweeper(
        blobs=blobs,
        sweeps=catalog.sweeps,
        grace_s=settings.grace,
        retention_s=settings.retention,
        installation=SweptInstallation(catalog, blobs, stopping),
        lease_s=settings.lease,
        now=lambda: catalog.database.now_ms() / 1000,
    )


async def sweep_by_itself(
    sweeper: Sweeper,
    catalog: Catalog,
    queue: Queue,
    *,
    apply: bool,
    since_ms: int,
    metrics: Metrics = NO_METRICS,
) -> None:
    """Run the sweep that was enqueued at `since_ms`; called again, it resumes where it stopped.

    Raises: SweepPaused, SweepBusy, StorageError.
    """
    if reason := await forbidden(catalog):
        log.info("sweep_deferred", reason=reason)
        return
    try:
        plan = await _made_since(since_ms, sweeper)
        if plan is None:
            plan = await make_plan(sweeper)
            log.info("swept", plan=plan.id, files=plan.files, rows=plan.rows, **plan.counts)
            if plan.stopped:
                log.error("sweep_stopped", reason=plan.stopped, plan=plan.id, **_numbers(plan))
                await alarm(queue, plan.stopped, plan, metrics)
        if apply and plan.counts and not plan.stopped and plan.applied is None:
            log.info("sweep_applied", plan=plan.id, **await apply_plan(plan.id, sweeper))
        if apply:
            log.info("sweep_purged", **await purge(sweeper))
    except StorageError as error:
        log.error("sweep_stopped", reason=str(error))  # noqa: TRY400 (the reason says it all)
        await alarm(queue, str(error), None, metrics)
        raise


async def _made_since(since_ms: int, sweeper: Sweeper) -> Plan | None:
    last = await sweeper.sweeps.last()
    if last is None or not last.plan or not since_ms <= last.time_ms <= sweeper.now() * 1000 + SKEW_MS:
        return None
    try:
        return await load(last.plan, sweeper.blobs)
    except PlanUnknown:  # it found nothing, and was not written down
        return Plan(last.plan, "", {}, {}, last.files.count, last.rows.count, 0)


async def alarm(queue: Queue, reason: str, plan: Plan | None, metrics: Metrics = NO_METRICS) -> None:
    """Send apps the message that a sweep was stopped, if Redis can be reached."""
    message = sweep_stopped(reason, plan.id if plan else None, now_ms(), _numbers(plan))
    with suppress(QueueUnavailable):
        await queue.messages.send([message])
        metrics.messages_sent([message["type"]])


def _numbers(plan: Plan | None) -> Mapping[str, int]:
    if plan is None:
        return {}
    return {"files": plan.files, "rows": plan.rows, "orphans": plan.counts.get(Kind.ORPHAN, 0)}


async def forbidden(catalog: Catalog) -> str | None:
    """Why nothing may be deleted now: a rebuild is not over before its originals are done with."""
    rebuild = await catalog.checkpoint(REBUILD).load()
    under_way = rebuild is not None and not rebuild["finished_ms"]
    newest = None if under_way else rebuild["newest"] if rebuild else 0
    waiting = await catalog.reports.count_without_variants(newest)
    if not under_way and not waiting:
        return None
    return f"a rebuild is under way, and {waiting} uploads still wait"
