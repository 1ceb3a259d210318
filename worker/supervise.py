"""The life of the process: a worker that ends in an outage is restarted until a signal stops it."""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

from pipelines.backoff import Backoff
from pipelines.errors import DecoderUnavailable
from pipelines.sandbox import DECODER, ForkServer
from storage.errors import StorageError
from worker.health import check_of
from worker.lifecycle import monitored, shut_down
from worker.logs import configure_logs
from worker.main import worker_settings
from worker.metrics import WorkerMetrics
from worker.prompt_worker import PromptWorker
from worker.queue import QueueUnavailable, new_instance
from worker.queue.mapping import OF_A_CONNECTION, mapped
from worker.settings import Settings
from worker.shutdown import Shutdown
from worker.status import Status
from worker.tracing import tracing

log = structlog.get_logger(__name__)

_GOODBYE_TIMEOUT_S = 5  # for the last commands to a Redis that may hang
_HEALTHY_S = 30
_COLLECTS_AFTER_S = 1.0  # until then a start makes hardly anything but what stays


async def run(
    settings: Settings, *, burst: bool, decoder: Sequence[str] = DECODER, spawned: ForkServer | None = None
) -> None:
    """Run a worker, and restart it with back-off after an outage of Redis, until a signal stops it.

    Once it has worked, it also waits for a storage or a catalog that is unavailable at a restart. Where a
    server of theirs does not answer, each start waits.

    `decoder` is the command line of its decoder processes, whose parent may have been `spawned` before.
    """
    configure_logs(settings.log)
    asyncio.get_running_loop().call_later(_COLLECTS_AFTER_S, gc.enable)
    shutdown = Shutdown()
    status = Status(shutdown.stopping.is_set)
    metrics = WorkerMetrics(endpoints=settings.endpoint_names)
    instance = new_instance()  # one for all restarts: what is in its queue is still its own
    async with (
        tracing(settings, instance) as traces,
        monitored(settings, status, metrics, burst=burst),
    ):
        lasting = {"shutdown": shutdown, "status": status, "metrics": metrics, "traces": traces}
        lasting |= {"spawned": spawned}
        try:
            await _run(settings, shutdown, status, lasting, instance=instance, burst=burst, decoder=decoder)
        finally:
            if spawned is not None and not spawned.has_ended:  # no start came so far
                await spawned.close()


async def _run(
    settings: Settings,
    shutdown: Shutdown,
    status: Status,
    lasting: Mapping[str, object],
    *,
    instance: str,
    burst: bool,
    decoder: Sequence[str],
) -> None:
    """Run workers one after another; `lasting` is what they have in common."""
    backoff = Backoff(first_s=0.5, longest_s=5)
    away = worked_before = answered = False
    reported = ""
    lacks: tuple[str, str] | None = None
    while not shutdown.stopping.is_set():
        worker = PromptWorker(**worker_settings(settings, burst=burst, decoder=decoder, instance=instance))
        worker.ctx.update(lasting, away=away, worked_before=worked_before, answered=answered, started=False)
        shutdown.listen()
        began = time.monotonic()
        try:
            with mapped(OF_A_CONNECTION):  # what arq itself asks of Redis
                await worker.async_run()
        except asyncio.CancelledError:
            await _cancel_jobs(worker)
            return  # arq's way to stop at a signal
        except (QueueUnavailable, StorageError, DecoderUnavailable, OSError) as error:
            event, reason = _outage(error)
            lacks = check_of(error), error.explain() if isinstance(error, QueueUnavailable) else reason
            status.waits_for(*lacks)
            # A failed restart is not logged again, unless Redis now refuses something else.
            if worker.ctx["started"] or not away or (event == "redis_refuses" and reason != reported):
                log.warning(event, reason=reason)
            reported = reason
            away, worked_before = True, worked_before or worker.ctx["started"]
            answered = worker.ctx["answered"]
            await _cancel_jobs(worker)
        except Exception:
            if not worker.ctx["started"]:
                raise  # it would be the same again
            # arq has met what another program wrote to Redis: the next start removes that.
            log.exception("worker_failed")
            away = worked_before = answered = True
            lacks = None
            await _cancel_jobs(worker)
        finally:
            await _close(worker)
        if lacks is not None:  # until here the last checks may have reported
            status.waits_for(*lacks)
        if burst:
            if away:
                raise SystemExit(1)
            return
        if time.monotonic() - began > _HEALTHY_S:
            backoff.reset()
        with suppress(TimeoutError):
            async with asyncio.timeout(backoff.next_s()):
                await shutdown.stopping.wait()


def _outage(error: BaseException) -> tuple[str, str]:
    if not isinstance(error, QueueUnavailable):
        return "cannot_start", str(error)
    if error.refusal:
        return "redis_refuses", error.explain()
    return "redis_unavailable", str(error)


async def _cancel_jobs(worker: PromptWorker) -> None:
    """End the jobs before their decoders are closed: a decoder that we end must not look like a crash.

    A job that waits for a Redis that hangs is abandoned after a few seconds.
    """
    jobs = list(worker.tasks.values())
    for job in jobs:
        if not job.cancelling():  # a second cancellation could interrupt the release of its claims
            job.cancel()
    if jobs:
        ended, _ = await asyncio.wait(jobs, timeout=_GOODBYE_TIMEOUT_S)
        await asyncio.gather(*ended, return_exceptions=True)
    worker.tasks.clear()


async def _close(worker: PromptWorker) -> None:
    redis = worker.pool
    try:
        with suppress(QueueUnavailable), mapped():
            async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                await redis.delete(worker.health_check_key)
    finally:
        await shut_down(worker.ctx)
        await redis.aclose(close_connection_pool=True)
