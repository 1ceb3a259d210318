"""A worker starts at once what it has enqueued itself, however rarely it looks at the queue."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from arq.worker import func

from scripts.redis_server import temporary_redis
from worker.main import PromptWorker
from worker.queue import PROCESS, Queue, connect, deserialize, job_queue_of, serialize

RARELY_S = 60.0


async def test_a_job_that_the_worker_itself_has_enqueued_does_not_wait_for_the_next_look() -> None:
    started, begun = asyncio.Event(), asyncio.Event()

    async def process(ctx: dict[Any, Any], ids: list[str]) -> None:
        begun.set()

    async def start_up(ctx: dict[Any, Any]) -> None:
        started.set()

    with temporary_redis() as server:
        redis = connect(server.url, job_queue_of("uploads"))
        queue = Queue(redis, "uploads", "me", 1000)
        worker = PromptWorker(
            functions=[func(process, name=PROCESS)],
            queue_name=queue.jobs,
            redis_pool=redis,
            on_startup=start_up,
            poll_delay=RARELY_S,
            handle_signals=False,
            job_serializer=serialize,
            job_deserializer=deserialize,
            ctx={"app": SimpleNamespace(queue=queue)},
        )
        running = asyncio.create_task(worker.async_run())
        await started.wait()
        await queue.enqueue({uuid4().hex: [uuid4()]})

        await asyncio.wait_for(begun.wait(), RARELY_S / 4)

        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await redis.aclose(close_connection_pool=True)
