"""The settings of arq. Importing this module reads no environment; its attribute `WorkerSettings` does."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import arq.worker
import structlog
from arq.worker import func

from pipelines.batch import NEW_WORK_S
from pipelines.sandbox import DECODER, longest_render_s
from worker import cron, queue, tasks
from worker.health_check import check
from worker.lifecycle import shut_down, start_up
from worker.logs import configure_logs, quiet_arq
from worker.places import PLACES
from worker.prompt_worker import PromptWorker
from worker.queue import QueueUnavailable
from worker.settings import Settings
from worker.settings_or_exit import load_or_exit

log = structlog.get_logger(__name__)


async def _ask_nothing(*_: object) -> None:
    """Replaces arq's `log_redis_info`: INFO is a command that a worker's user need not be allowed."""


arq.worker.log_redis_info = _ask_nothing  # type: ignore[attr-defined,assignment]

POLL_DELAY_S = 0.05
QUEUE_READ_LIMIT = 1000  # ids read in a poll, so that locked ones at the head starve nobody
OUT_OF_REACH = 1_000_000_000  # tries are counted in the catalog, not by arq
ARQ_HEALTH_S = 60
_WAITS_S = 60  # in which the last image of a job waits for a decoder, for memory, and for its commit

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
    arq.worker.Worker = PromptWorker  # type: ignore[misc]  # of which arq's command makes its worker
    return type(name, (), worker_settings(settings, burst=bool(options.get("burst"))))


async def _refuse_to_start(settings: Settings) -> None:
    """Log why and exit with 1 where Redis refuses something; arq itself reports one that is unreachable.

    Later on arq could not exit without a traceback, because at its end it sends commands to Redis.
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


def worker_settings(
    settings: Settings,
    *,
    burst: bool = False,
    decoder: Sequence[str] = DECODER,
    instance: str | None = None,
) -> Context:
    """Return arq's settings; they are built explicitly, because arq ignores inherited ones.

    `instance` names the worker, and so its queue of jobs; None: a new one.
    """
    instance = instance or queue.new_instance()
    job_queue = queue.job_queue_of(settings.stream, instance)
    # The last image may be claimed at the last moment, and then take all of its attempts.
    timeout = NEW_WORK_S + longest_render_s(settings.image_timeout) + _WAITS_S
    return {
        "functions": [
            func(tasks.process_batch, name=queue.PROCESS, timeout=timeout),
            *cron.functions(settings, burst=burst),
        ],
        # A burst ends when the queue is empty, so it must not enqueue the next run of a periodic task;
        # it only runs those that another worker has enqueued.
        "cron_jobs": [] if burst else cron.cron_jobs(settings),
        "queue_name": job_queue,
        "redis_pool": queue.connect(settings.redis_url, job_queue),
        "job_serializer": queue.serialize,
        "job_deserializer": queue.deserialize,
        "on_startup": start_up,
        "on_shutdown": shut_down,
        "max_jobs": PLACES,
        "max_tries": OUT_OF_REACH,
        "keep_result": 0,
        "poll_delay": POLL_DELAY_S,
        "queue_read_limit": QUEUE_READ_LIMIT,
        "job_completion_wait": settings.shutdown_wait,
        # arq's own heartbeat goes on when jobs do not start; `worker.health` has a better one.
        "health_check_interval": ARQ_HEALTH_S,
        "health_check_key": f"{settings.stream}:arq:{uuid4().hex}",
        "burst": burst,
        "ctx": {"settings": settings, "burst": burst, "decoder": decoder, "instance": instance},
    }


def _command_line() -> dict[str, Any]:
    """The options of the `arq` command that is running; empty outside of it."""
    import click  # which that has loaded; `media worker` has none

    context = click.get_current_context(silent=True)
    return dict(context.params) if context is not None and "worker_settings" in context.params else {}
