"""Start and end of a worker, which arq calls: everything is opened, and closed in reverse."""

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog

from pipelines.backoff import Backoff
from pipelines.dropped_variants import DroppedVariant, find_dropped
from pipelines.errors import DecoderUnavailable
from pipelines.recipe import digest_of
from storage.errors import BlobsAway, BlobsUnavailable, CatalogAway, CatalogUnfit, RootMismatch, StorageError
from worker import findings, leases, tasks
from worker.app import App, open_app
from worker.env_files import find_env_files
from worker.health import check_of
from worker.listening import CannotListen
from worker.logs import configure_logs
from worker.metrics import WorkerMetrics
from worker.monitoring import serving
from worker.process_info import describe_process
from worker.publisher import go_on_above
from worker.queue import Queue, QueueRefused, QueueUnavailable, check_answers, queue_on
from worker.settings import Settings, unknown_variables
from worker.shutdown import Shutdown
from worker.status import Status
from worker.tracing import tracing
from worker.webhooks.endpoint import CannotDeliver, WebhookEndpoint, check_installed

log = structlog.get_logger(__name__)

_START_PAUSE_S = 60  # a worker that starts again and again need not search for originals to adopt each time
_TRY_S = 30.0  # in which a server has answered, or surely has not
_PAUSE_S = 1.0  # after background work has failed
_CANCEL_INTERVAL_S = 0.2  # until background work is cancelled once more
_START_DRAIN = 1000  # events taken before the first poll

_earlier_starts = itertools.count()  # of this process

Context = dict[str, Any]


async def start_up(ctx: Context) -> None:
    """Handle signals, open everything, take what waits, and start the background tasks."""
    settings: Settings = ctx["settings"]
    configure_logs(settings.log)
    shutdown: Shutdown = ctx.setdefault("shutdown", Shutdown())
    shutdown.listen()
    stack = ctx["stack"] = AsyncExitStack()
    check_webhook_extra(settings)
    if "status" not in ctx:  # as under `arq`; otherwise they outlive this start
        status = Status(shutdown.stopping.is_set)
        metrics = WorkerMetrics(endpoints=settings.endpoint_names)
        traces = await stack.enter_async_context(tracing(settings, ctx["instance"]))
        await stack.enter_async_context(monitored(settings, status, metrics, burst=ctx["burst"]))
        ctx.update(status=status, metrics=metrics, traces=traces)
    queue = queue_on(ctx["redis"], settings, ctx["instance"])
    await _exit_if_refused(ctx, _check_redis(queue, settings, answered=ctx.get("answered", False)))
    ctx["answered"] = True
    try:
        app = await _open(ctx, stack, queue)
        if ctx["burst"]:
            await app.blobs.probe()  # others wait for a volume that is missing
    except (StorageError, DecoderUnavailable, OSError) as error:
        _end_unless_worked_before(ctx, error)
        raise
    ctx["app"] = app
    await _exit_if_refused(ctx, queue.ownership.bind(app.catalog.id))
    if not ctx.get("away"):
        await _warn(app)
    for deliverer in app.webhooks:
        # Behind the default one: a message that this passes by now, because it is another's, is that one's.
        await deliverer.begin(instead_of_default=bool(settings.webhook_url))
    if raised := await go_on_above(app.catalog.outbox, app.queue):
        log.info("seq_raised", above=raised)
    await _announce(ctx, app)
    await _take_what_waits(app, burst=ctx["burst"])
    takes_more = not ctx["burst"] or not await _lives_beside(queue, ctx["instance"])
    await stack.enter_async_context(in_background(app, takes_more=takes_more))
    hello = await app.batch.sandbox.hello("vips")
    if not hello.calls_closed:
        log.warning("decoders_unconfined", confinement=settings.confinement, landlock=hello.landlock)
    log.info(
        "worker_started",
        seccomp=hello.calls_closed,
        landlock=hello.landlock,
        isolation=settings.isolation,
        decoders=settings.decoders,
        memory_mb=settings.budget_mb,
        consumer=app.queue.consumer,
        env_files=[str(file.path) for file in find_env_files() if not file.problem],
    )
    ctx["started"] = True
    _freeze_what_stays()


def check_webhook_extra(settings: Settings) -> None:
    """Exit with 1 where webhooks are asked for and cannot be sent."""
    if not WebhookEndpoint.of(settings):
        return
    try:
        check_installed()
    except CannotDeliver as error:
        log.error("cannot_start", reason=str(error))  # noqa: TRY400 (the reason says it all)
        raise SystemExit(1) from error


def _end_unless_worked_before(ctx: Context, error: Exception) -> None:
    """Exit with 1, unless this worker has worked before: to it an outage has come, which may end."""
    if not ctx.get("worked_before") or isinstance(error, CatalogUnfit):
        log.error("cannot_start", reason=str(error))
        raise SystemExit(1) from error


async def _open(ctx: Context, stack: AsyncExitStack, queue: Queue) -> App:
    """Open all parts; while a server of the catalog or the storage is away wait, unless this is a burst.

    Heartbeats say meanwhile what is waited for. Raises: as `open_app`, QueueUnavailable.
    """
    backoff = Backoff(first_s=0.5, longest_s=5)
    problem = reported = ""
    try:
        while True:
            try:
                return await stack.enter_async_context(
                    open_app(
                        ctx["settings"],
                        queue,
                        ctx["instance"],
                        ctx["shutdown"],
                        ctx["metrics"],
                        ctx["status"],
                        ctx["traces"],
                        ctx["decoder"],
                        ctx.get("spawned"),
                    )
                )
            except (BlobsAway, CatalogAway) as error:
                if ctx["burst"]:
                    raise
                problem = str(error)
                ctx["status"].waits_for(check_of(error), problem)
            recipes = digest_of(ctx["settings"].recipe_book)
            who = describe_process(queue.consumer, ctx["status"], recipes)
            await queue.heartbeats.beat(ctx["instance"], problem, healthy=False, expiry_s=_TRY_S, info=who)
            if problem != reported:
                log.error("unhealthy", reason=problem)
                reported = problem
            await asyncio.sleep(backoff.next_s())
    except BaseException:
        if problem:  # which a heartbeat may say
            await _end_heartbeat(queue, ctx["instance"])
        raise


async def _end_heartbeat(queue: Queue, instance: str) -> None:
    with suppress(QueueUnavailable, TimeoutError):
        async with asyncio.timeout(2):
            await queue.heartbeats.end(instance)


def _freeze_what_stays() -> None:
    """Let no full collection look through what is loaded by now: each would stop all work meanwhile.

    What an earlier start of this process has left is not loaded, but garbage that no collection would find.
    What was frozen before the first start stays: it is of whoever forked this process, and shared with it.
    """
    if next(_earlier_starts):
        gc.unfreeze()
    if gc.isenabled():  # otherwise it was quick, and hardly anything was made that does not stay
        gc.collect()
    gc.freeze()
    gc.enable()


async def _warn(app: App) -> None:
    """Log what an operator should know of the Redis and of the settings."""
    found = findings.inspect_redis(await app.queue.server.info())
    dropped: Sequence[DroppedVariant] = ()
    with suppress(StorageError):
        dropped = await find_dropped(app.settings.recipe_book, app.catalog.variant_names)
    own = [findings.inspect_memory(app.settings), findings.inspect_recipes(app.settings, dropped)]
    findings.warn_of([*found, *own])
    for file in find_env_files():
        if file.problem:
            log.warning("env_file_not_read", file=str(file.path), reason=file.problem)
    for unknown, nearest in unknown_variables().items():
        log.warning("unknown_setting", variable=unknown, nearest=nearest)


async def _announce(ctx: Context, app: App) -> None:
    """Send the first heartbeat, then look again whose the storage is. Raises: QueueUnavailable.

    `media copy-blobs --finish` may have sealed it before it could see this worker.
    """
    await app.health.announce()
    try:
        with suppress(BlobsUnavailable):
            await app.blobs.check_identity()
    except RootMismatch as error:
        await app.health.close()
        _end_unless_worked_before(ctx, error)
        raise


async def _take_what_waits(app: App, *, burst: bool) -> None:
    """Take events, and run each periodic task once; in a burst take all events, and send all messages."""
    await app.intake.join()
    await leases.take_over_jobs(app.queue, everything=burst)
    await leases.remove_corrupt_jobs(app.queue)
    app.places.admits_all = burst
    if burst:
        await app.relay.drain()
        await app.intake.drain_all()
        await app.dispatcher.dispatch_all()
    else:
        await app.intake.drain(_START_DRAIN)
    await tasks.reconcile_now(app, unsent_ms=0 if burst else None)
    await tasks.adopt_now(app, pause_s=_START_PAUSE_S)
    await tasks.snapshot_now(app)


async def _lives_beside(queue: Queue, instance: str) -> bool:
    """Whether another worker is healthy. Raises: QueueUnavailable."""
    running = await queue.heartbeats.running()
    return any(worker.healthy and worker.instance != instance for worker in running)


async def _check_redis(queue: Queue, settings: Settings, *, answered: bool) -> None:
    """Raises: QueueUnavailable where Redis does not answer, or refuses what a worker does."""
    await check_answers(queue.redis, settings.redis_url, answered=answered)
    if refusal := await queue.server.refusal():
        raise QueueRefused(refusal)


async def _exit_if_refused(ctx: Context, asked: Awaitable[None]) -> None:
    """Exit with 1 where Redis refuses something for good, unless this worker has been at work before.

    Raises: QueueUnavailable for what may pass.
    """
    try:
        await asked
    except QueueUnavailable as error:
        if error.refusal is None or error.refusal.transient or ctx.get("worked_before"):
            raise
        log.error("cannot_start", reason=error.explain())  # noqa: TRY400 (the reason says it all)
        raise SystemExit(1) from error


async def shut_down(ctx: Context) -> None:
    """Close everything that was opened, in reverse."""
    stack: AsyncExitStack | None = ctx.pop("stack", None)
    if stack is not None:
        await stack.aclose()
        if ctx["burst"] or ctx["shutdown"].stopping.is_set():
            log.info(
                "worker_stopped"
            )  # otherwise Redis is unreachable: `run` logs that and restarts, arq exits
        if ctx["shutdown"].stopping.is_set():
            ctx["shutdown"].ignore_signals()


@asynccontextmanager
async def monitored(
    settings: Settings, status: Status, metrics: WorkerMetrics, *, burst: bool
) -> AsyncIterator[None]:
    """Have the event loop tick, and serve metrics and probes where the settings say so.

    Exit with 1 where that is impossible; a burst, which may be run beside a worker, only does its work.
    """
    async with AsyncExitStack() as stack:
        ticking = asyncio.create_task(status.keep_ticking(metrics.loop_lagged))
        stack.callback(ticking.cancel)
        if address := settings.metrics_address:
            try:
                await stack.enter_async_context(serving(address, status, partial(_exposed, status, metrics)))
            except CannotListen as error:
                reason = f"MEDIA_METRICS: {error}"
                if not burst:
                    log.error("cannot_start", reason=reason)  # noqa: TRY400 (the reason says it all)
                    raise SystemExit(1) from error
                log.warning("metrics_not_served", reason=reason)
        yield


def _exposed(status: Status, metrics: WorkerMetrics) -> bytes:
    """Everything that was counted, and how the worker is now."""
    metrics.show("media_health", status.health)
    metrics.show("media_degraded", status.signs)
    return metrics.exposition()


@asynccontextmanager
async def in_background(app: App, *, takes_more: bool = True) -> AsyncIterator[None]:
    """Run the background tasks; at the end the worker's heartbeat and its consumer are removed.

    `takes_more`: whether events are taken that come from now on. A burst leaves them to a worker that lives
    beside it: as long as that has more than it can do, there would be no end.
    """

    async def leave() -> None:
        await app.shutdown.stopping.wait()
        await app.health.report()
        with suppress(QueueUnavailable):  # at the end it is tried again
            await app.queue.jobs.queues.hand_on_untaken()

    works = [app.publisher.run, app.accounting.run, app.health.run, app.degradation.run, leave]
    if takes_more:
        works += [app.intake.run, app.relay.run, app.dispatcher.run]
    works += [app.batch.sandbox.watch_idle, app.limits.run]
    works += [deliverer.run for deliverer in app.webhooks]
    if app.batch.watcher is not None:
        works.append(app.batch.watcher.run)
    if app.settings.metrics_address:
        works.append(app.sampler.run)
    tasks = [asyncio.create_task(_restart_after_failures(work)) for work in works]
    try:
        yield
    finally:
        await _end(tasks)
        with suppress(QueueUnavailable, TimeoutError):
            async with asyncio.timeout(2):
                await app.health.close()
                await app.relay.close()
                await app.queue.jobs.queues.hand_on()
                await app.queue.stream.leave()


async def _restart_after_failures(work: Callable[[], Awaitable[None]]) -> None:
    """Run background work until it returns; restart it after an unexpected exception."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("background_work_failed", work=work.__qualname__)
            await asyncio.sleep(_PAUSE_S)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()  # more than once: redis-py loses a cancellation that meets a time-out of its own
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_INTERVAL_S)
