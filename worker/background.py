"""The background work of a worker: intake, outbox publisher, heartbeats and lookout."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import structlog

from worker.app import App
from worker.queue import QueueUnavailable

log = structlog.get_logger(__name__)

_PAUSE_S = 1.0  # after background work has failed
_CANCEL_INTERVAL_S = 0.2  # until background work is cancelled once more


@asynccontextmanager
async def in_background(app: App) -> AsyncIterator[None]:
    """Run the background tasks; at the end the worker's heartbeat and its consumer are removed."""
    works = [app.intake.run, app.publisher.run, app.health.run]
    if app.batch.lookout is not None:
        works.append(app.batch.lookout.run)
    tasks = [asyncio.create_task(_restart_after_failures(work)) for work in works]
    try:
        yield
    finally:
        await _end(tasks)
        with suppress(QueueUnavailable, TimeoutError):
            async with asyncio.timeout(2):
                await app.health.close()
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
