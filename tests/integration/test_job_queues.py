"""Each worker polls a queue of its own; no job stays in the queue of a worker that is gone."""

import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import redis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.typing import WorkerCoroutine
from arq.utils import timestamp_ms
from arq.worker import Retry, func

from scripts.redis_server import RedisServer, temporary_redis
from tests.support.redis_urls import by_port
from tests.support.tcp_proxy import TcpProxy
from worker.cron import tick
from worker.prompt_worker import PromptWorker
from worker.queue import PROCESS, Queue, connect, deserialize, job_queue_of, new_instance, serialize
from worker.queue.heartbeats import place

STREAM = "media:uploads"
INDEX = f"{STREAM}:queues"
POLLS = 10
ENDED = f"{place()}:{1 << 23}:a"  # no kernel gives a process that number
Join = Callable[..., Queue]


@pytest.fixture
async def join(server: RedisServer) -> AsyncIterator[Join]:
    """Makes the queue as one more worker, or with None another process, sees it."""
    clients = []

    def make(instance: str | None = "", *, url: str = server.url) -> Queue:
        name = new_instance() if instance == "" else instance
        clients.append(connect(url, job_queue_of(STREAM, name)))
        return Queue(clients[-1], STREAM, name or "nobody", 1000, instance=name)

    yield make
    await clients[0].flushdb()
    for client in clients:
        await client.aclose(close_connection_pool=True)


async def _beat(queue: Queue, *, healthy: bool = True) -> None:
    await queue.heartbeats.beat(_instance(queue), "", healthy=healthy, expiry_s=60)


def _instance(queue: Queue) -> str:
    return queue.jobs.key.removeprefix(f"{STREAM}:jobs:")


async def _enqueue(queue: Queue, count: int = 3) -> set[bytes]:
    jobs = [uuid4().hex for _ in range(count)]
    await queue.jobs.enqueue({job: [uuid4()] for job in jobs})
    return {job.encode() for job in jobs}


async def _queued(queue: Queue) -> set[bytes]:
    return set(await queue.redis.zrange(queue.jobs.key, 0, -1))


async def test_what_an_intake_takes_is_its_own_workers(join: Join) -> None:
    one, other = join(), join()
    for worker in (one, other):
        await _beat(worker)

    jobs = await _enqueue(one)

    assert await _queued(one) == jobs
    assert await _queued(other) == set()
    assert (await one.jobs.untaken(), await other.jobs.untaken()) == (3, 0)
    assert await other.jobs.waiting() == 3


async def _beat_for(seconds: float, *workers: Queue) -> None:
    """Heartbeats that expire after so long, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() <= until:
        for worker in workers:
            await worker.heartbeats.beat(_instance(worker), "", healthy=True, expiry_s=seconds)
        await asyncio.sleep(seconds / 20)


async def test_the_queue_of_a_dead_worker_is_taken_over(join: Join) -> None:
    dead, living = join(f"elsewhere:1:{uuid4().hex}"), join()
    jobs = await _enqueue(dead)
    await _beat_for(0.2, dead, living)
    await living.jobs.queues.take_over()
    assert await _queued(living) == set()

    await _beat_for(0.2, living)
    await living.jobs.queues.take_over()

    assert await _queued(living) == jobs
    assert not await living.redis.exists(dead.jobs.key)


async def test_a_silent_worker_of_another_host_is_not_dead_while_redis_was_away(join: Join) -> None:
    workers = [join(f"host{number}:1:a") for number in range(3)]
    jobs = [await _enqueue(worker) for worker in workers]
    await _beat_for(0.2, *workers)
    await asyncio.sleep(0.25)  # nobody reached it, and all heartbeats have expired
    back = join(_instance(workers[1]))  # a worker connects anew, or has only waited

    for worker in (back, workers[0]):
        await worker.jobs.queues.take_over()
        await worker.heartbeats.beat(_instance(worker), "", healthy=True, expiry_s=0.2)
        await worker.jobs.queues.take_over()

    assert [await _queued(worker) for worker in workers] == jobs


async def test_jobs_that_are_queued_for_a_worker_just_when_it_stops_are_found(
    join: Join, server: RedisServer
) -> None:
    stops, living = join("elsewhere:1:a"), join()
    await _beat(stops)
    queued = 0

    async def stop_after_the_first() -> None:
        nonlocal queued
        if queued == 1:
            await stops.heartbeats.end(_instance(stops))
            await stops.jobs.queues.hand_on()
        queued += 1

    with closing(_OneByOne(server, b"PSETEX", _here(stop_after_the_first))) as proxy:
        jobs = await _enqueue(join(None, url=proxy.url))

    texts = {job.decode() for job in jobs}
    assert await living.jobs.alive(sorted(texts)) == texts
    await living.jobs.queues.take_over()
    assert await _queued(living) == jobs


async def test_a_worker_that_slept_before_it_queued_and_is_dead_leaves_nothing(
    join: Join, server: RedisServer
) -> None:
    living = join()

    async def take_for_dead() -> None:
        await living.jobs.queues.take_over()

    with closing(_OneByOne(server, b"PSETEX", _here(take_for_dead))) as proxy:
        jobs = await _enqueue(join(ENDED, url=proxy.url), 1)
    await living.jobs.queues.take_over()

    assert await _queued(living) == jobs


async def test_a_worker_that_is_long_gone_is_forgotten(join: Join) -> None:
    dead, living = join(ENDED), join()
    await _enqueue(dead)
    await living.jobs.queues.take_over()
    gone_ms = await living.redis.zscore(INDEX, _instance(dead))
    assert gone_ms is not None
    await living.redis.zadd(INDEX, {_instance(dead): gone_ms + 3_600_000})

    await living.jobs.queues.take_over()

    assert await living.redis.zrange(INDEX, 0, -1) == [_instance(living).encode()]


async def test_no_queue_outlasts_the_jobs_in_it(join: Join) -> None:
    dead, living, command, other = join(ENDED), join(), join(None), join()
    for worker in (living, other):
        await _beat(worker)
    await _enqueue(dead)
    await _enqueue(living)
    await _enqueue(command)
    await living.jobs.queues.take_over()
    await other.jobs.queues.hand_on()

    queues = await living.redis.keys(f"{STREAM}:jobs*")
    assert queues == [living.jobs.key.encode()]
    assert all([await living.redis.ttl(queue) > 24 * 3600 for queue in queues])


@pytest.mark.parametrize("others", [0, 1, 3])
async def test_a_worker_that_is_told_to_stop_hands_on_what_it_has_not_begun(join: Join, others: int) -> None:
    stops, heirs, ill = join(), [join() for _ in range(others)], join()
    for worker in heirs:
        await _beat(worker)
    await _beat(ill, healthy=False)
    jobs = sorted(await _enqueue(stops, 7))
    await stops.jobs.renew(jobs[0].decode(), 10)
    await stops.redis.zadd(stops.jobs.key, {jobs[1]: 1e15})  # it is due later

    await stops.jobs.queues.hand_on_untaken()

    assert await _queued(stops) == {jobs[0]}
    shares = [await _queued(worker) for worker in heirs or [join(None)]]
    assert sorted(job for share in shares for job in share) == jobs[1:]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert await stops.jobs.alive([jobs[1].decode()]) == set()  # due so late, it is none


async def test_a_worker_of_this_host_whose_process_is_gone_is_dead_at_once(join: Join) -> None:
    ended = await asyncio.to_thread(subprocess.Popen, ["true"])
    await asyncio.to_thread(ended.wait)
    dead, living = join(f"{place()}:{ended.pid}:abc"), join()
    await _beat(dead)
    jobs = await _enqueue(dead)

    await living.jobs.queues.take_over()

    assert await _queued(living) == jobs


class _OneByOne(TcpProxy):
    """Relays command by command, and waits for `halt` before each `word`."""

    def __init__(self, server: RedisServer, word: bytes, halt: Callable[[], Awaitable[object]]) -> None:
        self._word = b"\r\n%s\r\n" % word
        self._halt = halt
        super().__init__(server.port)
        self.url = by_port(server.url, self.port)

    async def _upward(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, dropping: asyncio.Event
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while command := await _command(reader):
                if self._word in command:
                    await self._halt()
                back.write(command)


async def _command(reader: asyncio.StreamReader) -> bytes:
    """The next command, as it was sent."""
    read = await reader.readuntil(b"\r\n")
    for _ in range(int(read[1:])):
        length = await reader.readuntil(b"\r\n")
        read += length + await reader.readexactly(int(length[1:]) + 2)
    return read


def _together() -> Callable[[], Awaitable[object]]:
    """Two clients go on together, once Redis has read what both of them have sent."""
    barrier = asyncio.Barrier(2)

    async def wait() -> None:
        await barrier.wait()
        await asyncio.sleep(0.02)

    return wait


def _here(action: Callable[[], Coroutine[Any, Any, object]]) -> Callable[[], Awaitable[object]]:
    """The action as another thread's event loop awaits it, though it is run in the present one."""
    loop = asyncio.get_running_loop()
    return lambda: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(action(), loop))


async def test_two_that_take_over_at_once_lose_nothing_and_double_nothing(
    join: Join, server: RedisServer
) -> None:
    with closing(_OneByOne(server, b"DEL", _together())) as proxy:
        dead, one, other = join(ENDED), join(url=proxy.url), join(url=proxy.url)
        for worker in (one, other):
            await _beat(worker)
        jobs = await _enqueue(dead)

        await asyncio.gather(one.jobs.queues.take_over(), other.jobs.queues.take_over())

        found = await _queued(one), await _queued(other)
    assert found[0] | found[1] == jobs
    assert not found[0] & found[1]


async def test_a_corrupt_job_of_a_dead_worker_is_not_taken_over(join: Join) -> None:
    dead, living = join(ENDED), join()
    [corrupt, *sound] = sorted(await _enqueue(dead))
    await dead.redis.set(job_key_prefix.encode() + corrupt, b"[]")

    assert await living.jobs.queues.take_over() == 1

    assert await _queued(living) == set(sound)


async def test_a_burst_also_takes_what_living_workers_have(join: Join) -> None:
    living, burst = join(), join()
    await _beat(living)
    jobs = await _enqueue(living)

    await burst.jobs.queues.take_over(everything=True)

    assert await _queued(burst) == jobs


async def test_a_burst_leaves_a_living_worker_its_ticks_as_one_that_ended_is_locked_for_a_minute(
    join: Join,
) -> None:
    living, burst = join(), join()
    await _beat(living)
    await living.jobs.enqueue_task("reconcile", 1000)
    jobs = await _enqueue(living)

    await burst.jobs.queues.take_over(everything=True)

    assert (await _queued(burst), await _queued(living)) == (jobs, {b"reconcile:media:uploads:1000"})


async def test_a_job_keeps_the_time_at_which_it_is_due(join: Join) -> None:
    dead, living = join(ENDED), join()
    [job] = await _enqueue(dead, 1)
    await dead.redis.zincrby(dead.jobs.key, 50_000, job)
    due = await dead.redis.zscore(dead.jobs.key, job)
    await living.redis.zadd(living.jobs.key, {job: due + 1})  # it may be in both

    await living.jobs.queues.take_over()

    assert await living.redis.zscore(living.jobs.key, job) == due


async def test_a_worker_that_slept_is_found_again_once_it_has_jobs(join: Join) -> None:
    asleep, other = join(ENDED), join()
    await _enqueue(asleep)
    await other.jobs.queues.take_over()
    await _beat(asleep)

    jobs = await _enqueue(asleep)

    assert await other.jobs.alive(sorted(job.decode() for job in jobs)) == {job.decode() for job in jobs}
    await asleep.heartbeats.end(_instance(asleep))
    await other.jobs.queues.take_over()
    assert jobs <= await _queued(other)


@pytest.mark.parametrize("heir", ["a healthy one", "an unhealthy one", "nobody"])
async def test_a_worker_that_stops_hands_its_jobs_on(join: Join, heir: str) -> None:
    stops, other = join(), join()
    if heir != "nobody":
        await _beat(other, healthy=heir == "a healthy one")
    jobs = await _enqueue(stops)

    await stops.jobs.queues.hand_on()

    kept_by = other if heir == "a healthy one" else join(None)
    assert await _queued(kept_by) == jobs
    await other.jobs.queues.take_over()  # and nobody's are somebody's soon
    assert await _queued(other) == jobs


async def test_jobs_that_are_nobodys_are_left_to_the_next_worker(join: Join) -> None:
    jobs = await _enqueue(join(None))
    late = join()

    await late.jobs.queues.take_over()

    assert await _queued(late) == jobs


async def test_a_job_is_alive_in_whichever_queue_it_waits(join: Join) -> None:
    one, other, command = join(), join(), join(None)
    [mine], [others] = await _enqueue(one, 1), await _enqueue(other, 1)
    [nobodys] = await _enqueue(command, 1)
    asked = [job.decode() for job in (mine, others, nobodys)]

    for queue in (one, other, command):
        assert await queue.jobs.alive([*asked, uuid4().hex]) == set(asked)
    await one.jobs.discard(asked)
    assert await one.jobs.alive(asked) == set()
    assert [await _queued(queue) for queue in (one, other, command)] == [set(), set(), set()]


@pytest.mark.parametrize("heir", ["one that was asked", "one that has just come"])
async def test_a_job_that_moves_while_the_reconciler_asks_is_alive(
    join: Join, server: RedisServer, heir: str
) -> None:
    dead, living = join("elsewhere:1:a"), join()
    [job] = await _enqueue(dead, 1)
    await living.jobs.queues.enter_own()
    adopter = living if heir == "one that was asked" else join()
    asked: list[None] = []
    here = asyncio.get_running_loop()  # the proxy has one of its own

    async def move() -> None:
        asked.append(None)
        if len(asked) == 2:  # the queue of the asker itself is asked first
            taken_over = asyncio.run_coroutine_threadsafe(adopter.jobs.queues.take_over(), here)
            await asyncio.wrap_future(taken_over)

    with closing(_OneByOne(server, b"ZMSCORE", move)) as proxy:
        asker = join(_instance(living), url=proxy.url)

        assert await asker.jobs.alive([job.decode()]) == {job.decode()}


async def test_a_postponed_job_is_made_due_in_whichever_queue_it_is_by_now(join: Join) -> None:
    one, other = join(), join()
    [mine, moved] = sorted(await _enqueue(one, 2))
    await one.redis.zadd(one.jobs.key, {mine: 1e15})
    await one.redis.zrem(one.jobs.key, moved)
    await one.redis.zadd(other.jobs.key, {moved: 1e15})
    await other.jobs.queues.enter_own()

    await one.jobs.make_due([mine.decode(), moved.decode()])

    assert [await queue.redis.zcount(queue.jobs.key, 1, 1e14) for queue in (one, other)] == [1, 1]
    assert [await queue.redis.zcard(queue.jobs.key) for queue in (one, other)] == [1, 1]


async def _waiting_long(queue: Queue, count: int) -> set[bytes]:
    """Jobs of that worker that were due long ago."""
    jobs = await _enqueue(queue, count)
    await queue.redis.zadd(queue.jobs.key, {job: 1000 + at for at, job in enumerate(sorted(jobs))})
    await queue.redis.zadd(INDEX, {_instance(queue): 1000})
    return jobs


async def test_a_worker_with_room_takes_what_another_one_cannot_begin(join: Join) -> None:
    full, idle = join(), join()
    jobs = sorted(await _waiting_long(full, 6))
    for job in jobs[:2]:
        await full.jobs.renew(job.decode(), 10)

    await idle.jobs.help_out(3)

    assert await _queued(idle) == set(jobs[3:])
    assert await _queued(full) == set(jobs[:3])
    assert idle.jobs.queued.is_set()


async def test_jobs_that_run_do_not_hide_those_that_came_before_them(join: Join) -> None:
    full, idle = join(), join()
    jobs = sorted(await _waiting_long(full, 12))
    for job in jobs[-4:]:
        await full.jobs.renew(job.decode(), 10)

    await idle.jobs.help_out(3)

    assert await _queued(idle) == set(jobs[5:8])


async def test_the_ticks_of_a_worker_that_is_stuck_do_not_hide_its_uploads(join: Join) -> None:
    stuck, idle = join(), join()
    jobs = await _waiting_long(stuck, 2)
    ticks = {f"reconcile:{STREAM}:{number}".encode(): 5000 + number for number in range(20)}
    sound = await stuck.redis.get(job_key_prefix.encode() + min(jobs))
    await stuck.redis.mset({job_key_prefix.encode() + tick: sound for tick in ticks})
    await stuck.redis.zadd(stuck.jobs.key, ticks)

    await idle.jobs.help_out(3)

    assert await _queued(idle) == {*jobs, max(ticks, key=lambda tick: ticks[tick])}


async def test_what_runs_has_just_come_is_due_later_or_is_corrupt_is_taken_by_nobody(join: Join) -> None:
    full, idle = join(), join()
    [runs, new, later, corrupt] = sorted(await _enqueue(full, 4))
    await full.redis.zadd(full.jobs.key, {runs: 1, corrupt: 1, later: 1e15})
    await full.jobs.renew(runs.decode(), 10)
    await full.redis.set(job_key_prefix.encode() + corrupt, b"[]")
    await full.redis.zadd(INDEX, {_instance(full): 1000})

    await idle.jobs.help_out(4)

    assert await _queued(idle) == set()
    assert await _queued(full) == {runs, new, later, corrupt}


async def test_the_index_has_since_when_a_job_waits_in_a_queue(join: Join) -> None:
    worker = join()

    async def noted() -> float:
        await worker.jobs.untaken()
        score: float = await worker.redis.zscore(INDEX, _instance(worker))
        return score

    [job] = await _enqueue(worker, 1)
    enqueued = await noted()
    await worker.redis.set(in_progress_key_prefix.encode() + job, "1")
    begun, still = await noted(), await noted()
    await worker.redis.delete(in_progress_key_prefix.encode() + job)
    returned = await noted()
    await worker.jobs.discard([job.decode()])

    assert 0 < enqueued <= returned <= timestamp_ms()
    assert begun == still > returned
    assert await noted() == 0


async def test_what_a_worker_had_begun_that_stands_still_is_taken_once_its_lock_has_ended(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_still, idle = join(), join()
    await _beat(stands_still)
    [job] = await _enqueue(stands_still, 1)
    await stands_still.redis.set(in_progress_key_prefix.encode() + job, "1")
    await stands_still.jobs.untaken()
    await stands_still.redis.delete(in_progress_key_prefix.encode() + job)

    for later_s, taken in ((2, set()), (5, {job})):
        now = time.time() + later_s
        monkeypatch.setattr("arq.utils.time", partial(float, now))
        await idle.jobs.help_out(4)
        assert await _queued(idle) == taken


async def test_a_worker_corrects_what_another_process_noted_of_its_queue(join: Join) -> None:
    worker = join()
    await worker.redis.zadd(INDEX, {_instance(worker): 1000})

    await worker.jobs.help_out(4)

    assert await worker.redis.zscore(INDEX, _instance(worker)) == 0


async def test_a_worker_without_room_takes_nothing(join: Join) -> None:
    full, busy = join(), join()
    for worker in (full, busy):
        await _waiting_long(worker, 4)

    await busy.jobs.help_out(4)

    assert await full.jobs.untaken() == 4


async def test_two_that_take_the_same_jobs_at_once_double_nothing(join: Join, server: RedisServer) -> None:
    with closing(_OneByOne(server, b"MULTI", _together())) as proxy:
        full, one, other = join(ENDED), join(url=proxy.url), join(url=proxy.url)
        jobs = await _waiting_long(full, 2)

        await asyncio.gather(one.jobs.help_out(4), other.jobs.help_out(4))

        found = await _queued(one), await _queued(other)
    assert sorted(map(len, found)) == [0, 2]
    assert found[0] | found[1] == jobs


async def test_a_job_that_begins_while_it_is_taken_stays_where_it_is(join: Join, server: RedisServer) -> None:
    full = join()
    [job] = await _waiting_long(full, 1)

    async def begin() -> None:
        with redis.Redis.from_url(server.url) as its_worker:
            its_worker.set(in_progress_key_prefix.encode() + job, "1")

    with closing(_OneByOne(server, b"MULTI", begin)) as proxy:
        await join(url=proxy.url).jobs.help_out(4)

    assert await _queued(full) == {job}


def _worker(queue: Queue, process: WorkerCoroutine, **options: Any) -> PromptWorker:
    return PromptWorker(
        functions=[func(process, name=PROCESS)],
        queue_name=queue.jobs.key,
        redis_pool=queue.redis,
        poll_delay=0.001,
        keep_result=0,
        handle_signals=False,
        job_serializer=serialize,
        job_deserializer=deserialize,
        ctx={"app": SimpleNamespace(queue=queue)},
        **options,
    )


@pytest.mark.parametrize("begun", [False, True])
async def test_the_daily_tick_of_a_worker_that_dies_is_done_by_another_one_on_that_day(
    join: Join, *, begun: bool
) -> None:
    """The tick's ID is the same for all workers: who queues it first has it in a queue of its own."""
    done: list[str] = []
    due = datetime.now().astimezone() + timedelta(seconds=0.5)

    async def sweep(ctx: dict[str, Any], *_: object) -> None:
        done.append(ctx["job_id"])

    def once_a_day(after: datetime) -> datetime:
        return due if after < due else due + timedelta(days=1)

    queues = [join(ENDED), join()]
    for queue in queues:
        await queue.jobs.queues.take_over()  # as each does at its start
    workers = [
        _worker(queue, sweep, cron_jobs=[tick(once_a_day, sweep, name=f"sweep:{STREAM}", timeout_s=60)])
        for queue in queues
    ]
    for worker in (*workers, *workers):  # the first time it learns when the tick is, the second it queues it
        await worker.heart_beat()
    [job] = await _queued(queues[0])
    assert await _queued(queues[1]) == set()
    if begun:
        await queues[0].redis.set(in_progress_key_prefix.encode() + job, "1", px=700)  # as long as its lease
        await queues[0].redis.set(retry_key_prefix.encode() + job, "1")

    await queues[1].jobs.queues.take_over()
    async with asyncio.timeout(10):
        while not done:
            await workers[1]._poll_iteration()

    assert done == [job.decode()]


async def test_a_job_that_was_taken_over_and_put_off_by_its_living_worker_ends_once(join: Join) -> None:
    taken_over, ended = asyncio.Event(), []

    async def process(ctx: dict[str, Any], ids: list[str]) -> None:
        if not taken_over.is_set():
            await taken_over.wait()
            raise Retry(defer=0.05)
        ended.append(ctx["job_id"])

    asleep, other = join(ENDED), join()
    [job] = await _enqueue(asleep, 1)
    workers = [_worker(queue, process) for queue in (asleep, other)]
    await workers[0]._poll_iteration()
    await other.jobs.queues.take_over()
    taken_over.set()

    async with asyncio.timeout(10):
        while await _queued(asleep) | await _queued(other):
            for worker in workers:
                await worker._poll_iteration()

    assert ended == [job.decode()]
    assert await other.redis.keys("arq:*") == []


@dataclass(frozen=True)
class Fleet:
    """Workers whose jobs run, and that have nothing else to do."""

    workers: Sequence[PromptWorker]

    async def polled(self, times: int) -> Counter[str]:
        """What Redis is asked while each worker polls so often."""

        async def poll() -> None:
            for worker in self.workers:
                for _ in range(times):
                    worker.ctx["app"].queue.jobs.queued.set()
                    await worker._poll_iteration()

        return await self._asked(poll)

    async def worked(self) -> Counter[str]:
        """What Redis is asked while each worker does one job, and then looks what else there is to do."""

        async def work() -> None:
            for worker in self.workers:
                queue = worker.ctx["app"].queue
                await _enqueue(queue, 1)
                await worker._poll_iteration()
                await asyncio.gather(*worker.tasks.values())
                await worker._poll_iteration()
                assert not await queue.jobs.untaken()
                await queue.jobs.help_out(4)

        return await self._asked(work)

    async def helped(self) -> Counter[str]:
        """What Redis is asked while each worker looks once whether it can take jobs of others."""

        async def help_out() -> None:
            for worker in self.workers:
                await worker.ctx["app"].queue.jobs.help_out(worker.max_jobs)

        return await self._asked(help_out)

    async def _asked(self, act: Callable[[], Awaitable[None]]) -> Counter[str]:
        client = self.workers[0].pool
        await client.config_resetstat()
        await act()
        found = await client.info("commandstats")
        return Counter({name: of_one["calls"] for name, of_one in found.items() if "config" not in name})


@asynccontextmanager
async def fleet(*busy: int) -> AsyncIterator[Fleet]:
    """Workers with so many jobs at work each, and room for one more."""

    async def process(ctx: dict[str, Any], ids: list[str]) -> None: ...

    with temporary_redis() as server:
        workers = []
        for at_work in busy:
            instance = new_instance()
            client = connect(server.url, job_queue_of(STREAM, instance))
            queue = Queue(client, STREAM, instance, 1000, instance=instance)
            await _beat(queue)
            for job in await _enqueue(queue, at_work):
                await client.set(in_progress_key_prefix.encode() + job, instance)
            if at_work:
                await client.zadd(INDEX, {instance: 1000})
                await queue.jobs.untaken()
            workers.append(_worker(queue, process))
        try:
            yield Fleet(workers)
        finally:
            for worker in workers:
                await worker.pool.aclose(close_connection_pool=True)


async def test_the_commands_of_an_upload_do_not_grow_with_the_number_of_workers() -> None:
    each = {}
    for count in (2, 16):
        async with fleet(*[0] * count) as workers:
            each[count] = (await workers.worked()).total() / count

    assert each[16] < 1.1 * each[2]
    assert each[16] < 40  # arq's share of it are 24


async def test_an_idle_worker_asks_nothing_for_the_184_jobs_that_others_have_in_work() -> None:
    async with fleet(0, *[4] * 46) as workers:
        one = Fleet(workers.workers[:1])
        polled = await one.polled(POLLS)
        await asyncio.gather(*(worker.ctx["app"].queue.jobs.untaken() for worker in workers.workers[1:]))
        helped = await one.helped()

    assert polled.total() <= 5 * POLLS
    assert helped == {"cmdstat_zrangebyscore": 2}  # its own queue, and the index
