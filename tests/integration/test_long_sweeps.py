"""A sweep by night that takes many jobs: arq keeps the lock of a tick for a minute, but none of theirs."""

import asyncio
from datetime import datetime
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.redis_server import temporary_redis
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog
from worker import tasks
from worker.main import worker_settings
from worker.metrics import WorkerMetrics
from worker.prompt_worker import PromptWorker
from worker.queue import queue_on
from worker.settings import Settings
from worker.shutdown import Shutdown

TICK_LOCK_S = 60


async def test_the_jobs_of_a_long_sweep_follow_each_other_at_once(
    catalog: Catalog, local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, swept = list[str](), asyncio.Event()

    async def job_ended(ctx: dict[Any, Any]) -> None:
        jobs.append(ctx["job_id"])
        if await catalog.sweeps.last():
            swept.set()

    async def nothing(_ctx: dict[Any, Any]) -> None: ...

    seconds = count(step=tasks.SWEEP_S / 2 + 1)
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: next(seconds)))  # one step a job
    await local_blobs.bind(catalog.id, catalog_is_new=True)
    with temporary_redis() as server:
        hour = (datetime.now().hour + 12) % 24  # local, as a crontab is
        settings = Settings(redis_url=server.url, stream="media:long-sweeps", sweep_cron=f"0 {hour} * * *")
        options = worker_settings(settings)
        queue = queue_on(options["redis_pool"], settings, options["ctx"]["instance"])
        app = SimpleNamespace(
            settings=settings,
            catalog=catalog,
            blobs=local_blobs,
            queue=queue,
            shutdown=Shutdown(),
            metrics=WorkerMetrics(),
        )
        options |= {"on_startup": nothing, "on_shutdown": nothing, "after_job_end": job_ended}
        options["cron_jobs"] = [job for job in options["cron_jobs"] if job.name.startswith("sweep")]
        ctx = {"app": app, "settings": settings}
        worker = PromptWorker(**{**options, "handle_signals": False, "ctx": ctx})
        await queue.redis.enqueue_job(job := f"sweep:{settings.stream}", _job_id=f"{job}:1")
        running = asyncio.create_task(worker.async_run())

        await asyncio.wait_for(swept.wait(), TICK_LOCK_S / 4)

        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await queue.redis.aclose(close_connection_pool=True)
    assert len(jobs) > 3
    assert len(set(jobs)) == 2  # the tick, and the work
