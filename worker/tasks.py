"""The functions that arq runs: each parses its arguments, calls what does the work, and answers arq."""

import time
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import structlog
from arq.worker import Retry

from pipelines.batch import process_uploads
from pipelines.batch_report import BatchReport
from pipelines.stats.snapshots import keep_snapshot
from pipelines.sweep.sweeper import SweepBusy, SweepPaused
from storage.errors import CatalogUnavailable, StorageError
from worker import leases
from worker.adoption import PAUSE_S
from worker.app import BACKLOG, App
from worker.backups import back_up_by_itself, note_failure
from worker.queue import MOST_UPLOADS, QueueUnavailable, StreamMismatch
from worker.retry import delay_ms, policy_of
from worker.sweeping import sweep_by_itself, sweeper_of
from worker.tracing import naming_trace

log = structlog.get_logger(__name__)

SWEEP_S = 20.0  # of one try
_SWEEP_ON_S = 0.1
_NOT_OURS_S = 5.0

Context = dict[str, Any]


async def process_batch(ctx: Context, ids: list[str]) -> None:
    """Process the uploads `ids`. Raises: Retry, for when the first one left over is due."""
    app: App = ctx["app"]
    if len(ids) > MOST_UPLOADS:  # another program wrote that
        log.warning("job_not_run", job_id=ctx["job_id"], reason=f"it has {len(ids)} uploads")
        return
    await _leave_to_its_owner(app)
    with structlog.contextvars.bound_contextvars(job_id=ctx["job_id"]), app.shutdown.cancellable():
        async with _lock_renewed(ctx):
            with app.places.running(ctx["job_id"]) as owners:
                report = await _process([UUID(upload_id) for upload_id in ids], owners, ctx, app)
        if report.due_in_ms is not None:
            raise Retry(defer=report.due_in_ms / 1000)


async def _leave_to_its_owner(app: App) -> None:
    """Raises: Retry where the stream belongs to another catalog by now: run here, the job would be lost."""
    try:
        await app.queue.ownership.check(lately=True)
    except StreamMismatch:
        raise Retry(defer=_NOT_OURS_S) from None
    except QueueUnavailable:
        pass  # the catalog alone decides what is to be done


async def reconcile(ctx: Context) -> None:
    app: App = ctx["app"]
    async with _lock_renewed(ctx):
        await reconcile_now(app)


async def reconcile_now(app: App, unsent_ms: int | None = None) -> None:
    """Run the reconciler once; an outage is logged, and the next run does the rest."""
    try:
        await leases.reconcile(
            app.queue,
            app.catalog,
            app.publisher,
            lease_s=app.settings.lease,
            retention_s=app.settings.retention,
            unsent_ms=unsent_ms,
            metrics=app.metrics,
            on_parked=app.dispatcher.attend,
        )
    except (QueueUnavailable, CatalogUnavailable) as error:
        log.warning("reconcile_failed", reason=str(error))


async def snapshot(ctx: Context) -> None:
    """Job of each hour: the first worker of a day saves the totals."""
    app: App = ctx["app"]
    async with _lock_renewed(ctx):
        await snapshot_now(app)


async def snapshot_now(app: App) -> None:
    """Save the day's totals unless they are saved; after an outage the next hour's run does."""
    try:
        if await keep_snapshot(app.catalog, app.blobs):
            log.info("snapshot_saved")
    except StorageError as error:
        log.warning("snapshot_failed", reason=str(error))


async def adopt(ctx: Context) -> None:
    """Job: adopt originals without a record from the next page."""
    app: App = ctx["app"]
    async with _lock_renewed(ctx):
        await adopt_now(app)


async def adopt_now(app: App, pause_s: float = PAUSE_S) -> None:
    """Adopt from the next page, unless jobs wait or the last listing ended less than `pause_s` ago."""
    try:
        if app.places.parked or await app.queue.jobs.untaken() >= BACKLOG:
            return
        if await app.adoption.tick(app.settings.adopt, pause_s=pause_s):
            await app.dispatcher.attend()
    except (QueueUnavailable, StorageError) as error:
        log.warning("adoption_failed", reason=str(error))


async def sweep(ctx: Context) -> None:
    """Job of the crontab line: enqueue `sweep_on`.

    The sweep is a job of its own, because arq keeps the lock of a cron job for a minute after each try.
    """
    try:
        await _enqueue_for_tick(ctx, sweep_on.__name__)
    except QueueUnavailable as error:
        log.warning("sweep_failed", reason=str(error))  # the next one does it


async def sweep_on(ctx: Context, since_ms: int) -> None:
    """Job: run one time slice of the sweep that began at `since_ms`. Raises: Retry if there is more."""
    app: App = ctx["app"]
    until = time.monotonic() + SWEEP_S
    sweeper = sweeper_of(
        app.settings,
        app.catalog,
        app.blobs,
        lambda: time.monotonic() > until or app.shutdown.stopping.is_set(),
    )
    async with _lock_renewed(ctx):
        try:
            await sweep_by_itself(
                sweeper,
                app.catalog,
                app.queue,
                apply=app.settings.sweep_apply,
                since_ms=since_ms,
                metrics=app.metrics,
            )
            await app.dispatcher.attend()  # to what it has queued to be made again
        except SweepPaused:
            raise Retry(defer=_SWEEP_ON_S) from None
        except SweepBusy as error:
            log.info("sweep_waits", reason=str(error))
            raise Retry(defer=app.settings.lease) from None
        except (QueueUnavailable, StorageError) as error:
            log.warning("sweep_failed", reason=str(error))  # the next one does it


async def backup(ctx: Context) -> None:
    """Job of the crontab line: enqueue `back_up`, for the same reason as `sweep` does."""
    app: App = ctx["app"]
    try:
        await _enqueue_for_tick(ctx, back_up.__name__)
    except QueueUnavailable as error:
        await note_failure(app.catalog, error)  # the next one does it


async def back_up(ctx: Context, since_ms: int) -> None:
    """Job: make a copy of the catalog, unless one was made since `since_ms`, by a worker that then died."""
    app: App = ctx["app"]
    async with _lock_renewed(ctx):
        try:
            await back_up_by_itself(app.settings, app.catalog, since_ms=since_ms)
        except StorageError as error:
            await note_failure(app.catalog, error)


async def _enqueue_for_tick(ctx: Context, name: str) -> None:
    """Enqueue that job once for this tick of the crontab, with the time from which on its work counts."""
    app: App = ctx["app"]
    tick_ms, since_ms = int(ctx["enqueue_time"].timestamp() * 1000), app.catalog.database.now_ms()
    await app.queue.jobs.enqueue_task(name, tick_ms, since_ms)


def _lock_renewed(ctx: Context) -> AbstractAsyncContextManager[None]:
    app: App = ctx["app"]
    return leases.lock_renewed(app.queue, ctx["job_id"], app.settings.lease, app.metrics)


async def _process(ids: list[UUID], owners: dict[UUID, str], ctx: Context, app: App) -> BatchReport:
    try:
        report = await process_uploads(ids, ctx["job_id"], app.batch, owners)
    except ExceptionGroup as group:
        # No upload is at fault when a whole batch stops: no attempt is counted, and all of it is retried.
        _log_stop(group, len(ids), app)
        raise Retry(defer=delay_ms(min(ctx["job_try"], 5)) / 1000) from group
    if report.outcomes:  # at least the claims were made
        app.outage_log.over()
    log_report(report)
    stages = {f"{stage}_ms": round(ms, 1) for stage, ms in report.ms.items()}
    with naming_trace(report.traceparents.get(ids[0]) if len(ids) == 1 else None):
        log.info("batch", uploads=len(ids), left_over=len(report.left_over), **report.outcomes, **stages)
    return report


def log_report(report: BatchReport) -> None:
    """Log a warning of each upload that is not as it should be."""
    for upload_id, code, message in report.failures:
        will_retry = upload_id in report.left_over
        _warn(report, "upload_not_ready", upload_id, code=code, reason=message, will_retry=will_retry)
    for upload_id, code, message in report.undecoded:
        _warn(report, "upload_ready_undecoded", upload_id, code=code, reason=message)
    for upload_id, why in report.kept:
        _warn(report, "original_kept", upload_id, reason=why)


def _warn(report: BatchReport, what: str, upload_id: UUID, **fields: object) -> None:
    """Log a warning about one upload, in its trace."""
    details = {"details": report.details[upload_id]} if upload_id in report.details else {}
    with naming_trace(report.traceparents.get(upload_id)):
        log.warning(what, upload=str(upload_id), **fields, **details)


def _log_stop(group: ExceptionGroup[Exception], uploads: int, app: App) -> None:
    outages, others = group.split(CatalogUnavailable)
    if outages is not None:
        app.outage_log.met(outages.exceptions[0])
    if others is not None:
        code = policy_of(others.exceptions[0]).code
        log.error("batch_stopped", code=code, uploads=uploads, exc_info=others)
