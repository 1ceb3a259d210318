"""What arq is told. Importing this module reads no environment; asking it for `WorkerSettings` does."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import FrameType
from typing import Any
from uuid import uuid4

import arq.worker
import click
import structlog
from arq.cron import CronJob
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func

from pipelines.errors import DecoderUnavailable
from pipelines.sandbox import DECODER
from storage.blobs.opening import read_owner
from storage.errors import StorageError
from storage.threads import in_thread_within
from worker import health, queue, tasks
from worker.app import JOBS_AT_ONCE, in_background, open_app
from worker.crontab import next_after
from worker.env_files import find_env_files
from worker.logs import configure_logs, quiet_arq
from worker.numbering import go_on_above
from worker.queue import QueueRefused, QueueUnavailable
from worker.queue.mapping import OF_A_CONNECTION, mapped
from worker.settings import Settings, SettingsError, unknown_variables
from worker.shutdown import Shutdown
from worker.standard_error import say
from worker.ticks import every, tick

log = structlog.get_logger(__name__)


async def _ask_nothing(*_: object) -> None:
    """In the place of arq's question for INFO, which is a right that a worker can do without."""


arq.worker.log_redis_info = _ask_nothing  # type: ignore[attr-defined,assignment]

POLL_DELAY_S = 0.05
QUEUE_READ_LIMIT = 1000  # ids looked at in a poll, so that locked ones at the head starve nobody
OUT_OF_REACH = 1_000_000_000  # tries are counted in the catalog, not by arq
ARQ_HEALTH_S = 60
CHORES: Sequence[WorkerCoroutine] = (tasks.reconcile, tasks.adopt, tasks.snapshot)
_SWEEP: WorkerCoroutine = tasks.sweep
_SWEEP_ON: WorkerCoroutine = tasks.sweep_on
_AN_HOUR_S = 3600  # what is done once a day is not left out by who was away at midnight
_START_PAUSE_S = 60  # a worker that starts again and again need not look for originals to adopt each time
_START_DRAIN = 1000  # events taken before the first poll
_JOB_S = 30 + 60  # new images are taken for 30 s; the rest is for the last ones' images and commits
_SWEEP_TIMEOUT_S = 300  # of one try: its last step may meet a slow disk
_CHECK_S = 8  # of a health check, whatever happens
_ANSWERS_S, _STORAGE_S = 6, 2  # of it for Redis and the storage together, and for the storage
_GOODBYE_TIMEOUT_S = 5  # for the last commands to a Redis that may hang
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S, _HEALTHY_S = 0.5, 5.0, 30

Context = dict[str, Any]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attribute)
    if name != "WorkerSettings":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    settings = load_or_exit()
    options = _command_line()
    if options.get("check"):
        raise SystemExit(check(settings))
    if options:
        asyncio.run(_refuse_to_start(settings))
    quiet_arq()
    return type(name, (), worker_settings(settings, burst=bool(options.get("burst"))))


def load_or_exit() -> Settings:
    """The settings; where they are wrong, every mistake on standard error and exit code 2."""
    try:
        return Settings.load()
    except SettingsError as error:
        say(f"The settings are not right:\n{error}")
        raise SystemExit(2) from error


async def _refuse_to_start(settings: Settings) -> None:
    """Exit code 1 and one line where Redis says no; one that is away is found by arq itself.

    arq cannot end quietly later on, for it has last words to Redis.
    """
    try:
        async with queue.open_queue(settings) as opened:
            refusal = await opened.server.refusal()
    except QueueUnavailable as error:
        refusal = error.refusal
    if refusal:
        configure_logs(settings.log)
        log.error("cannot_start", reason=f"{refusal.by}: {refusal}")
        raise SystemExit(1)


def worker_settings(settings: Settings, *, burst: bool = False, decoder: Sequence[str] = DECODER) -> Context:
    """arq's settings, built explicitly, because arq ignores inherited ones."""
    job_queue = queue.job_queue_of(settings.stream)
    # Two tries of an image, each with its wall time, may follow the last one taken.
    timeout = _JOB_S + 2 * 3 * settings.image_timeout
    return {
        "functions": [
            func(tasks.process_batch, name=queue.PROCESS, timeout=timeout),
            func(_SWEEP_ON, name=_name_of(_SWEEP_ON, settings), timeout=_SWEEP_TIMEOUT_S),
            *(func(chore, name=_name_of(chore, settings)) for chore in (*CHORES, _SWEEP) if burst),
        ],
        # A burst ends when the queue is empty, which it never is while the next tick waits in it: it
        # plans no ticks, and only does those that another worker has planned.
        "cron_jobs": [] if burst else [*(_chore(chore, settings) for chore in CHORES), *_sweeps(settings)],
        "queue_name": job_queue,
        "redis_pool": queue.connect(settings.redis_url, job_queue),
        "job_serializer": queue.serialize,
        "job_deserializer": queue.deserialize,
        "on_startup": start_up,
        "on_shutdown": shut_down,
        "max_jobs": JOBS_AT_ONCE,
        "max_tries": OUT_OF_REACH,
        "keep_result": 0,
        "poll_delay": POLL_DELAY_S,
        "queue_read_limit": QUEUE_READ_LIMIT,
        "job_completion_wait": settings.shutdown_wait,
        # arq's own sign of life stays when jobs do not start; `worker.health` gives a better one.
        "health_check_interval": ARQ_HEALTH_S,
        "health_check_key": f"{job_queue}:arq:{uuid4().hex}",
        "burst": burst,
        "ctx": {"settings": settings, "burst": burst, "decoder": decoder},
    }


def check(settings: Settings) -> int:
    """Whether a worker of this container, or of this host, is healthy: exit code 0 or 1, in a few seconds.

    arq's own check knows one key, and few of the options that a URL may have.
    """
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_CHECK_S)
    try:
        is_healthy, detail = asyncio.run(_look_at_workers(settings))
    except TimeoutError:  # a Redis that hangs is asked more than once
        is_healthy, detail = False, f"Redis does not answer within {_ANSWERS_S} s"
    except QueueUnavailable as error:
        is_healthy, detail = False, error.explain()
    say(f"Health check {'successful' if is_healthy else 'failed'}: {detail}")
    return 0 if is_healthy else 1


async def _look_at_workers(settings: Settings) -> tuple[bool, str]:
    """Whether a worker of this installation is healthy here, and its detail for people.

    Raises: QueueUnavailable; TimeoutError where Redis takes too long.
    """
    async with asyncio.timeout(_ANSWERS_S), queue.open_queue(settings) as opened:
        workers = await opened.heartbeats.living()
        here = [worker for worker in workers if worker.is_here]
        is_healthy = any(worker.healthy for worker in here)
        if here and not is_healthy:
            return False, here[0].detail
        try:
            # The storage folder says whose it is without the catalog's engine, which takes long to start.
            mine = await in_thread_within(_STORAGE_S, partial(read_owner, settings.storage_url))
        except TimeoutError:
            return False, f"the storage folder {settings.storage_root} does not answer within {_STORAGE_S} s"
        await opened.ownership.check_not_of_another(mine)
        if is_healthy:
            return True, next(worker.detail for worker in here if worker.healthy)
        detail = f"no worker is heard of here; {len(workers)} elsewhere"
        if refusal := await opened.server.refusal():  # then one may be there, and wait for that to end
            detail = f"{refusal.by}: {refusal.what}; {detail}. {refusal.remedy}"
        return False, detail


def _give_up(_number: int, _frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"Health check failed: Redis, the storage folder or this machine took too long\n")
    os._exit(1)


async def start_up(ctx: Context) -> None:
    """Open everything, take what waits, and begin to listen for signals."""
    settings: Settings = ctx["settings"]
    configure_logs(settings.log)
    shutdown: Shutdown = ctx.setdefault("shutdown", Shutdown())
    shutdown.listen()
    stack = ctx["stack"] = AsyncExitStack()
    await _or_end(ctx, _check_rights(ctx, settings))
    try:
        app = await stack.enter_async_context(open_app(settings, ctx["redis"], shutdown, ctx["decoder"]))
        if ctx["burst"]:
            await app.blobs.probe()  # others wait for a volume that is missing
    except (StorageError, DecoderUnavailable, OSError) as error:
        if ctx.get("worked_before"):
            raise  # it has been at work here: this is an outage too, and passes
        log.error("cannot_start", reason=str(error))  # noqa: TRY400 (the reason says it all)
        raise SystemExit(1) from error
    ctx["app"] = app
    await _or_end(ctx, app.queue.ownership.bind(app.catalog.id))
    if not ctx.get("away"):
        health.warn(await app.queue.server.info())
        health.warn_of([health.inspect_memory(settings), health.inspect_recipes(settings)])
        for file in find_env_files():
            if file.problem:
                log.warning("env_file_not_read", file=str(file.path), reason=file.problem)
        for unknown, nearest in unknown_variables().items():
            log.warning("unknown_setting", variable=unknown, nearest=nearest)
    if raised := await go_on_above(app.catalog.outbox, app.queue):
        log.info("seq_raised", above=raised)
    await app.intake.join()
    if removed := await app.queue.jobs.remove_corrupt():
        log.warning("corrupt_jobs_removed", count=removed)
    await (app.intake.drain_all() if ctx["burst"] else app.intake.drain(_START_DRAIN))
    await tasks.reconcile_now(app, unsent_ms=0 if ctx["burst"] else None)
    await tasks.adopt_now(app, pause_s=_START_PAUSE_S)
    await tasks.snapshot_now(app)
    await stack.enter_async_context(in_background(app))
    log.info(
        "worker_started",
        decoders=settings.decoders,
        memory_mb=settings.budget_mb,
        consumer=app.queue.consumer,
        env_files=[str(file.path) for file in find_env_files() if not file.problem],
    )
    ctx["started"] = True
    # What was loaded by now stays for good: to search it for garbage would stop all work again and again.
    gc.freeze()


async def _check_rights(ctx: Context, settings: Settings) -> None:
    await queue.check_answers(ctx["redis"], settings.redis_url)
    refusal = await queue.queue_on(ctx["redis"], settings).server.refusal()
    if refusal is not None:
        raise QueueRefused(refusal)


async def _or_end(ctx: Context, asked: Awaitable[None]) -> None:
    """End with 1 where Redis says no for good; what passes, or was lost by a worker at work, is waited for.

    Raises: QueueUnavailable, for those who wait.
    """
    try:
        await asked
    except QueueUnavailable as error:
        if error.refusal is None or error.refusal.passes or ctx.get("worked_before"):
            raise
        log.error("cannot_start", reason=error.explain())  # noqa: TRY400 (the reason says it all)
        raise SystemExit(1) from error


async def shut_down(ctx: Context) -> None:
    """Close everything that was opened, in reverse."""
    stack: AsyncExitStack | None = ctx.pop("stack", None)
    if stack is not None:
        await stack.aclose()
        if ctx["burst"] or ctx["shutdown"].stopping.is_set():
            log.info("worker_stopped")  # otherwise Redis is away: `run` says so and starts it anew, arq ends
        if ctx["shutdown"].stopping.is_set():
            ctx["shutdown"].ignore_signals()


async def run(settings: Settings, *, burst: bool, decoder: Sequence[str] = DECODER) -> None:
    """The worker, through outages of Redis: it is started anew, with back-off, until it is told to stop.

    Where it has been at work before, it also waits for a storage or catalog that is away when it starts anew.

    `decoder` is the program that its children run.
    """
    configure_logs(settings.log)
    shutdown = Shutdown()
    back_off = _FIRST_BACK_OFF_S
    away = worked_before = False
    reported = ""
    while not shutdown.stopping.is_set():
        worker = PromptWorker(**worker_settings(settings, burst=burst, decoder=decoder))
        worker.in_progress_timeout_s = settings.lease
        worker.ctx.update(shutdown=shutdown, away=away, worked_before=worked_before, started=False)
        shutdown.listen()
        began = time.monotonic()
        try:
            with mapped(OF_A_CONNECTION):  # what arq itself asks of Redis
                await worker.async_run()
        except asyncio.CancelledError:
            await _hand_back(worker)
            return  # arq's way to stop at a signal
        except (QueueUnavailable, StorageError, DecoderUnavailable, OSError) as error:
            event, reason = _outage(error)
            # Otherwise this was one more try to start.
            if worker.ctx["started"] or not away or (event == "redis_refuses" and reason != reported):
                log.warning(event, reason=reason)
            reported = reason
            away, worked_before = True, worked_before or worker.ctx["started"]
            await _hand_back(worker)
        finally:
            await _close(worker)
        if burst:
            if away:
                raise SystemExit(1)
            return
        back_off = _FIRST_BACK_OFF_S if time.monotonic() - began > _HEALTHY_S else back_off * 2
        with suppress(TimeoutError):
            async with asyncio.timeout(min(back_off, _LONGEST_BACK_OFF_S)):
                await shutdown.stopping.wait()


def _outage(error: BaseException) -> tuple[str, str]:
    """The event and the reason in the log for what ended a worker."""
    if not isinstance(error, QueueUnavailable):
        return "cannot_start", str(error)
    if error.refusal:
        return "redis_refuses", error.explain()
    return "redis_unavailable", str(error)


class PromptWorker(Worker):
    """arq's worker, which also looks at the queue as soon as this process has enqueued a job.

    So one without a job may look half as often: what it can miss is a retry, or another worker's job.
    """

    async def _poll_iteration(self) -> None:
        queued: asyncio.Event = self.ctx["app"].queue.jobs.queued
        with suppress(TimeoutError):
            async with asyncio.timeout(self.poll_delay_s if self.tasks else 2 * self.poll_delay_s):
                await queued.wait()
        queued.clear()
        await super()._poll_iteration()


async def _hand_back(worker: Worker) -> None:
    """End the jobs before what they work with is closed: no decoder that we end may look like a crash.

    What a job still has to say to a Redis that hangs is left unsaid.
    """
    jobs = list(worker.tasks.values())
    for job in jobs:
        if not job.cancelling():  # once is enough: it may be giving back what it has
            job.cancel()
    if jobs:
        ended, _ = await asyncio.wait(jobs, timeout=_GOODBYE_TIMEOUT_S)
        await asyncio.gather(*ended, return_exceptions=True)
    worker.tasks.clear()


async def _close(worker: Worker) -> None:
    redis = worker.pool
    try:
        with suppress(QueueUnavailable), mapped():
            async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                await redis.delete(worker.health_check_key)
    finally:
        await shut_down(worker.ctx)
        await redis.aclose(close_connection_pool=True)


def _chore(coroutine: WorkerCoroutine, settings: Settings) -> CronJob:
    """A chore that comes with every tick; its name holds the stream, for arq's keys know no queue."""
    seconds = _AN_HOUR_S if coroutine is tasks.snapshot else settings.reconcile_interval
    return tick(every(seconds), coroutine, name=_name_of(coroutine, settings), timeout_s=60)


def _sweeps(settings: Settings) -> Sequence[CronJob]:
    """The tick that begins a sweep at its times, if it has any."""
    if not settings.sweep_cron:
        return []
    schedule = partial(next_after, settings.sweep_cron)
    return [tick(schedule, _SWEEP, name=_name_of(_SWEEP, settings), timeout_s=60)]


def _name_of(coroutine: WorkerCoroutine, settings: Settings) -> str:
    return f"{coroutine.__qualname__}:{settings.stream}"


def _command_line() -> dict[str, Any]:
    """The options of the `arq` command that is running, none outside of it."""
    context = click.get_current_context(silent=True)
    return dict(context.params) if context is not None and "worker_settings" in context.params else {}
