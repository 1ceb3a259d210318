"""A worker starts at once what it has enqueued itself, however rarely it looks at the queue."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from arq import ArqRedis
from arq.constants import in_progress_key_prefix
from arq.typing import WorkerCoroutine
from arq.worker import func

from scripts.redis_server import temporary_redis
from worker import prompt_worker
from worker.cron import every, tick
from worker.prompt_worker import PromptWorker
from worker.queue import PROCESS, Queue, QueueUnavailable, connect, deserialize, job_queue_of, serialize

RARELY_S = 60.0
OFTEN_S = 0.1


@dataclass(frozen=True)
class Running:
    queue: Queue
    redis: ArqRedis
    begun: asyncio.Event
    """Set when a job has begun."""

    starts: list[str]
    """The id of each job that was started, as often as it was."""

    jobs: dict[str, asyncio.Task[Any]]
    """Each job that was started, and whose end arq has not seen yet."""

    ended: asyncio.Task[None]

    stop: Callable[[], None]
    """What a SIGTERM does."""

    async def pauses(self, count: int) -> Sequence[float]:
        """The seconds between so many looks at the queue and the next."""
        async with self.redis.monitor() as monitor:
            looks = (each async for each in monitor.listen() if each["command"].startswith("ZRANGEBYSCORE"))
            times = [(await anext(looks))["time"] for _ in range(count + 1)]
        return [later - earlier for earlier, later in pairwise(times)]


def _worker(queue: Queue, process: WorkerCoroutine, **options: Any) -> PromptWorker:
    return PromptWorker(
        functions=[func(process, name=PROCESS)],
        queue_name=queue.jobs.key,
        redis_pool=queue.redis,
        handle_signals=False,
        job_serializer=serialize,
        job_deserializer=deserialize,
        ctx={"app": SimpleNamespace(queue=queue), "settings": SimpleNamespace(lease=60)},
        **options,
    )


@asynccontextmanager
async def running(poll_delay: float, *, work: asyncio.Event | None = None) -> AsyncIterator[Running]:
    """A worker at work, whose jobs last until `work` is set, with a Redis of its own."""
    started = asyncio.Event()

    async def process(ctx: dict[Any, Any], ids: list[str]) -> None:
        starts.append(ctx["job_id"])
        begun.set()
        if work is not None:
            await work.wait()

    async def start_up(ctx: dict[Any, Any]) -> None:
        started.set()

    begun = asyncio.Event()
    starts: list[str] = []
    with temporary_redis() as server:
        redis = connect(server.url, job_queue_of("uploads"))
        queue = Queue(redis, "uploads", "me", 1000)
        worker = _worker(
            queue, process, on_startup=start_up, poll_delay=poll_delay, job_completion_wait=int(RARELY_S)
        )
        stop = partial(worker.handle_sig_wait_for_completion, signal.SIGTERM)
        task = asyncio.create_task(worker.async_run())
        await started.wait()
        try:
            yield Running(queue, redis, begun, starts, worker.tasks, task, stop)
        finally:
            task.cancel()
            await asyncio.gather(task, *worker.tasks.values(), return_exceptions=True)
            await redis.aclose(close_connection_pool=True)


async def test_a_job_that_the_worker_itself_has_enqueued_does_not_wait_for_the_next_look() -> None:
    async with running(RARELY_S) as worker:
        await worker.queue.jobs.enqueue({uuid4().hex: [uuid4()]})

        await asyncio.wait_for(worker.begun.wait(), RARELY_S / 4)


async def test_a_worker_that_finds_nothing_looks_ever_less_often_down_to_twice_a_second() -> None:
    async with running(OFTEN_S) as worker:
        pauses = await worker.pauses(4)

    assert max(pauses) > 3 * OFTEN_S


async def test_a_worker_at_work_looks_no_more_often_than_one_without_a_job() -> None:
    work = asyncio.Event()
    async with running(OFTEN_S, work=work) as worker:
        await worker.queue.jobs.enqueue({uuid4().hex: [uuid4()]})
        await worker.begun.wait()

        pauses = await worker.pauses(4)
        work.set()

    assert max(pauses) > 3 * OFTEN_S


async def test_a_job_that_ends_where_there_was_room_for_others_causes_no_look_at_the_queue() -> None:
    work = asyncio.Event()
    async with running(RARELY_S, work=work) as worker:
        await worker.queue.jobs.enqueue({uuid4().hex: [uuid4()]})
        await worker.begun.wait()
        await worker.redis.config_resetstat()
        work.set()
        await asyncio.wait(worker.jobs.values())
        asked = await worker.redis.info("commandstats")

        will_look_at_once = worker.queue.jobs.queued.is_set()

    assert "cmdstat_zrem" in asked  # the job is finished
    assert "cmdstat_zrangebyscore" not in asked
    assert not will_look_at_once


async def test_a_job_that_had_no_room_begins_once_another_one_has_ended() -> None:
    begun = []

    async def process(ctx: dict[Any, Any], ids: list[str]) -> None:
        begun.append(ctx["job_id"])

    with temporary_redis() as server:
        redis = connect(server.url, job_queue_of("uploads"))
        queue = Queue(redis, "uploads", "me", 1000)
        worker = _worker(queue, process, poll_delay=RARELY_S, max_jobs=1)
        await queue.jobs.enqueue({uuid4().hex: [uuid4()] for _ in range(2)})
        async with asyncio.timeout(RARELY_S / 4):
            for _ in range(2):
                await worker._poll_iteration()
            await asyncio.gather(*worker.tasks.values())
        await redis.aclose(close_connection_pool=True)

    assert len(set(begun)) == 2


async def test_locked_jobs_at_the_head_of_the_queue_hold_up_none_behind_them() -> None:
    begun = []

    async def process(ctx: dict[Any, Any], ids: list[str]) -> None:
        begun.append(ctx["job_id"])

    locked, free = [uuid4().hex for _ in range(50)], uuid4().hex
    with temporary_redis() as server:
        redis = connect(server.url, job_queue_of("uploads"))
        queue = Queue(redis, "uploads", "me", 1000)
        worker = _worker(queue, process, max_jobs=4)
        await redis.mset({in_progress_key_prefix + job_id: "a dead worker" for job_id in locked})
        await redis.zadd(queue.jobs.key, dict.fromkeys(locked, 1))
        await queue.jobs.enqueue({free: [uuid4()]})
        await redis.config_resetstat()
        await worker._poll_iteration()
        tries = (await redis.info("commandstats"))["cmdstat_set"]["calls"]
        await asyncio.gather(*worker.tasks.values())
        await redis.aclose(close_connection_pool=True)

    assert begun == [free]
    assert tries <= 8  # as many as there are places, and once more: not each of those that are locked


async def test_a_job_whose_lock_was_taken_by_a_command_without_an_answer_begins_at_once() -> None:
    """The client repeats a command whose answer was lost: the lock that it finds then is its own."""
    job_id = uuid4().hex
    async with running(RARELY_S) as worker:
        await worker.redis.set(in_progress_key_prefix + job_id, "me", px=60_000)
        await worker.queue.jobs.enqueue({job_id: [uuid4()]})
        await asyncio.wait_for(worker.begun.wait(), RARELY_S / 4)

    assert worker.starts == [job_id]


async def test_a_job_that_outlives_its_lock_is_not_started_again_beside_itself() -> None:
    """arq keeps one task for each id: of two, the second to end would fail, and finish the job."""
    work = asyncio.Event()
    async with running(OFTEN_S, work=work) as worker:
        await worker.queue.jobs.enqueue({uuid4().hex: [uuid4()]})
        await worker.begun.wait()

        assert await worker.redis.delete(in_progress_key_prefix + worker.starts[0]) == 1
        await worker.pauses(2)

        work.set()
        assert len(worker.starts) == 1


async def test_what_a_job_has_failed_of_is_raised_also_where_the_job_is_due_again() -> None:
    """A job that could not be finished, because Redis was away, is due again once its lock has ended."""
    job_id = uuid4().hex

    async def fail() -> None:
        raise QueueUnavailable("Redis was away")

    async with running(RARELY_S) as worker:
        worker.jobs[job_id] = asyncio.create_task(fail())
        await asyncio.wait([worker.jobs[job_id]])
        await worker.queue.jobs.enqueue({job_id: [uuid4()]})

        with pytest.raises(QueueUnavailable, match="Redis was away"):
            await asyncio.wait_for(worker.ended, RARELY_S / 4)

    assert worker.starts == []


@pytest.mark.parametrize("ends_first", [True, False], ids=["ended", "at work"])
async def test_a_stop_takes_no_longer_than_the_last_job_however_rarely_the_queue_is_polled(
    monkeypatch: pytest.MonkeyPatch, ends_first: bool
) -> None:
    """arq waits until each job has left its tasks, which by itself it removes when it polls."""
    monkeypatch.setattr(prompt_worker, "_LONGEST_PAUSE_S", RARELY_S)
    work = asyncio.Event()
    async with running(OFTEN_S, work=work) as worker:
        await worker.queue.jobs.enqueue({uuid4().hex: [uuid4()]})
        await worker.begun.wait()
        if ends_first:
            work.set()
            await asyncio.wait(worker.jobs.values())
        worker.stop()
        work.set()
        await asyncio.wait([worker.ended], timeout=RARELY_S / 12)

        assert worker.ended.done()


async def test_a_worker_that_is_to_stop_queues_no_tick_for_itself() -> None:
    async def nothing(ctx: dict[Any, Any]) -> None: ...

    with temporary_redis() as server:
        redis = connect(server.url, job_queue_of("uploads"))
        queue = Queue(redis, "uploads", "me", 1000)
        crons = [tick(every(1), nothing, name="tick:uploads", timeout_s=60)]
        worker = _worker(queue, nothing, cron_jobs=crons)
        queued = []
        for worker.allow_pick_jobs in (False, True):
            for _ in range(2):  # a tick is known from the first time on
                await worker.heart_beat()
            queued.append(await redis.zcard(queue.jobs.key))
        await redis.aclose(close_connection_pool=True)

    assert queued == [0, 1]
