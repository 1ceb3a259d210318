"""The queue of jobs: what a worker does with arq's keys beyond what arq does itself."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.exceptions import ResponseError

from worker.queue.corrupt_jobs import TICK
from worker.queue.job_queues import JobQueues
from worker.queue.mapping import maps_errors
from worker.queue.ownership import Ownership

PROCESS = "process_batch"  # the arq function that works on uploads

_JOB_KEYS = (job_key_prefix, in_progress_key_prefix, retry_key_prefix)
_ARQS_LOCK = b"1"  # what arq itself writes when a job starts
_LONGEST_PAUSE_MS = 60_000  # of a batch as a whole
_LATEST_MS = 20 * 60_000  # twice the longest that an upload is put off
_OLDEST = 200  # jobs at the head of the queue, for the health
_BEAT_MS = 15_000  # the longest that the last heartbeat of a living worker is ago
_HEAD = 1000  # jobs that arq itself reads in a poll

_State = tuple[bytes | None, int, int, Sequence[float | None]]
"""Of a job: the lock's holder, how long it lasts yet, whether there is a payload, the score in each queue."""


@maps_errors
class Jobs:
    """The jobs of one stream; those of this worker are in arq's queue `key`."""

    def __init__(
        self, redis: ArqRedis, stream: str, consumer: str, ownership: Ownership, queues: JobQueues
    ) -> None:
        self.key = queues.own
        self.queues = queues
        self.queued = asyncio.Event()  # a job was enqueued from here
        self._redis = redis
        self._stream = stream
        self._consumer = consumer
        self._ownership = ownership
        self._begun: set[str] = set()  # jobs whose lock is new

    async def enqueue(self, job_ids: Mapping[str, Sequence[UUID]]) -> None:
        """Enqueue a job for the uploads under each job ID, for this worker.

        If Redis' answer is lost, the reconciler requeues.

        Raises: StreamMismatch where the stream is another catalog's by now.
        """
        await self._ownership.check(lately=True)
        if not job_ids:
            return
        now = timestamp_ms()
        # As arq does it, but all of them at once: a job's ID is new, so nobody has to watch it. What is left
        # where Redis dies between two of these is a payload without a job, which expires.
        async with self._redis.pipeline(transaction=False) as pipe:
            since_ms = self.queues.ask_to_enter_own(pipe)
            for job_id, ids in job_ids.items():
                texts = [str(upload_id) for upload_id in ids]
                job = serialize_job(PROCESS, (texts,), {}, None, now, serializer=self._redis.job_serializer)
                pipe.psetex(job_key_prefix + job_id, self._redis.expires_extra_ms, job)
            pipe.zadd(self.key, dict.fromkeys(job_ids, now), nx=True)
            await pipe.execute()
        self.queues.note_entered(since_ms)
        self.queued.set()

    async def begin(self, job_ids: Sequence[str], lease_s: float) -> Mapping[str, int]:
        """Lock those of `job_ids` that are due in the own queue and that nobody else runs; none runs here.

        Returns their scores. arq asks three questions for each, and its lock says nothing of who has it.
        """
        if not job_ids:
            return {}
        # First the lock, then the score: of one that ended before it was locked there is none any more.
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.set(in_progress_key_prefix + job_id, self._consumer, px=int(lease_s * 1000), nx=True)
                pipe.zscore(self.key, job_id)
            answers = await pipe.execute()
        now = timestamp_ms()
        due = {
            job_id: int(score)
            for job_id, score in zip(job_ids, answers[1::2], strict=True)
            if score and score <= now
        }
        locked = {job_id for job_id, is_locked in zip(job_ids, answers[::2], strict=True) if is_locked}
        if gone := [in_progress_key_prefix + job_id for job_id in locked - due.keys()]:
            await self._redis.delete(*gone)  # whoever ran it has ended it, or put it off
        self._begun.update(locked & due.keys())
        if refused := [job_id for job_id in due if job_id not in locked]:
            locked |= await self._own(refused)
        return {job_id: score for job_id, score in due.items() if job_id in locked}

    async def _own(self, job_ids: Sequence[str]) -> set[str]:
        """Those of `job_ids`, none of which runs here, that this worker has a lock of.

        The client repeats a command whose answer was lost.
        """
        holders = await self._redis.mget(in_progress_key_prefix + job_id for job_id in job_ids)
        own = self._consumer.encode()
        return {job_id for job_id, holder in zip(job_ids, holders, strict=True) if holder == own}

    async def unlocked(self, job_ids: Sequence[str]) -> list[str]:
        """Those of `job_ids` that nobody runs, in their order."""
        locked = await self._are_locked([job_id.encode() for job_id in job_ids])
        return [job_id for job_id, is_locked in zip(job_ids, locked, strict=True) if not is_locked]

    async def enqueue_task(self, name: str, tick_ms: int, *arguments: int) -> None:
        """Enqueue the task of that tick, unless it is queued already."""
        task = f"{name}:{self._stream}"
        await self._redis.enqueue_job(task, *arguments, _job_id=f"{task}:{tick_ms}", _queue_name=self.key)
        self.queued.set()

    async def alive(self, job_ids: Sequence[str], longest_lock_ms: int = 600_000) -> frozenset[str]:
        """Those of `job_ids` that wait in a queue or are running.

        A lock with arq's own value does not count: its worker died before it could turn it into a lease. Nor
        does one that never ends, or is none: no worker wrote it.
        Nor does a job that is due later than the longest pause of a batch, by the clock of the worker that
        polls its queue, or a lock that lasts longer than any lease: a clock that was ahead wrote them.
        """
        if not job_ids:
            return frozenset()
        times = await self.queues.times_ms()
        while (found := await self._states(job_ids, list(times))) is None:
            times = await self.queues.times_ms()
        latest = [now + _BEAT_MS + _LONGEST_PAUSE_MS for now in times.values()]
        return frozenset(
            job_id
            for job_id, (holder, left_ms, payload, scores) in zip(job_ids, found, strict=True)
            if holder != _ARQS_LOCK
            and left_ms <= longest_lock_ms
            and (holder is None or left_ms >= 0)
            and (holder is not None or (payload and _is_soon(scores, latest)))
        )

    async def _states(self, job_ids: Sequence[str], queues: Sequence[str]) -> Sequence[_State] | None:
        """What is known of each job at one moment, as jobs move; None where there are more queues by now."""
        async with self._redis.pipeline(transaction=True) as pipe:
            self.queues.ask_for_all(pipe)
            for queue in queues:
                pipe.zmscore(queue, list(job_ids))
            for job_id in job_ids:
                pipe.get(in_progress_key_prefix + job_id)
                pipe.pttl(in_progress_key_prefix + job_id)
                pipe.exists(job_key_prefix + job_id)
            index, *answers = await pipe.execute(raise_on_error=False)
        for at, answer in enumerate(answers):
            if not isinstance(answer, ResponseError):
                continue
            if "WRONGTYPE" not in str(answer):
                raise answer
            # No queue, where no job is, or a lock that no worker wrote.
            answers[at] = [None] * len(job_ids) if at < len(queues) else _ARQS_LOCK
        if isinstance(index, ResponseError):
            raise index
        if not set(self.queues.named(index)) <= set(queues):
            return None
        scores, of_jobs = answers[: len(queues)], answers[len(queues) :]
        return list(zip(of_jobs[::3], of_jobs[1::3], of_jobs[2::3], zip(*scores, strict=True), strict=True))

    async def make_due(self, job_ids: Sequence[str]) -> None:
        """Make these jobs due now, in whichever queue each of them waits."""
        if not job_ids:
            return
        times = await self.queues.times_ms()
        async with self._redis.pipeline(transaction=False) as pipe:
            for queue, now in times.items():
                pipe.zadd(queue, dict.fromkeys(job_ids, now), xx=True)
            await pipe.execute()
        self.queued.set()

    async def pull_in(self) -> None:
        """Make jobs due that are postponed for longer than any can be: a clock that was ahead did that."""
        for queue, now in (await self.queues.times_ms()).items():
            found = await self._redis.zrangebyscore(queue, now + _LATEST_MS, "+inf", start=0, num=_HEAD)
            if found:
                await self._redis.zadd(queue, dict.fromkeys(found, now), xx=True)

    async def discard(self, job_ids: Sequence[str]) -> None:
        """Remove all keys of jobs whose uploads have moved to other jobs."""
        queues = await self.queues.all()
        async with self._redis.pipeline(transaction=True) as pipe:
            for queue in queues:
                pipe.zrem(queue, *job_ids)
            for job_id in job_ids:
                pipe.delete(*(prefix + job_id for prefix in _JOB_KEYS))
            await pipe.execute()

    async def heal(self, job_id: str) -> int:
        """Let a job run once more of which arq has raised what is in Redis; remove it where it is corrupt."""
        await self._redis.delete(in_progress_key_prefix + job_id, retry_key_prefix + job_id)
        return await self.queues.remove_corrupt(head=True)

    def has_just_begun(self, job_id: str) -> bool:
        """Whether the job's lock is new, and need not be renewed."""
        return job_id in self._begun

    def note_end(self, job_id: str) -> None:
        """The job runs here no more."""
        self._begun.discard(job_id)

    async def renew(self, job_id: str, lease_s: float) -> bool:
        """Keep the job's lock for `lease_s` more seconds; False when another worker has it now."""
        self._begun.discard(job_id)
        key = in_progress_key_prefix + job_id
        holder = await self._redis.get(key)
        if holder not in (None, _ARQS_LOCK, self._consumer.encode()):
            return False
        await self._redis.set(key, self._consumer, px=int(lease_s * 1000))
        return True

    async def waiting(self) -> int:
        """How many jobs with uploads are due, running ones included; postponed ones are not counted."""
        return sum([await self._waiting_in(queue) for queue in await self.queues.all()])

    async def _waiting_in(self, queue: str) -> int:
        due, now = await self._due(queue)
        jobs = sum(not TICK.fullmatch(job) for job in due)
        if len(due) < _HEAD:
            return jobs
        return jobs + int(await self._redis.zcount(queue, "-inf", now)) - _HEAD

    async def untaken(self) -> int:
        """How many due jobs of this worker have no lock, among those that it reads in a poll.

        Locked ones are running, or were when their worker died; neither may pause the intake.
        """
        due, _ = await self._due(self.key)
        untaken = len(due) - sum(await self._are_locked(due))
        await self.queues.note(due=len(due), untaken=untaken)
        return untaken

    async def due_here(self) -> Collection[str]:
        """The jobs with uploads that are due in this worker's queue, running ones included."""
        due, _ = await self._due(self.key)
        return {job.decode() for job in due if not TICK.fullmatch(job)}

    async def counts(self) -> Mapping[str, int]:
        """How many jobs with uploads wait in this worker's queue, run, or are postponed."""
        found = await self._redis.zrange(self.key, 0, _HEAD - 1, withscores=True)
        now = timestamp_ms()
        jobs = [(job, due) for job, due in found if not TICK.fullmatch(job)]
        due = [job for job, due in jobs if due <= now]
        running = sum(await self._are_locked(due))
        return {"waiting": len(due) - running, "running": running, "postponed": len(jobs) - len(due)}

    async def untaken_anywhere(self) -> int:
        """How many due jobs with uploads nobody runs, among those at the head of each queue."""
        count = 0
        for queue in await self.queues.all():
            due, _ = await self._due(queue)
            jobs = [job for job in due if not TICK.fullmatch(job)]
            count += len(jobs) - sum(await self._are_locked(jobs))
        return count

    async def help_out(self, at_once: int) -> None:
        """Take jobs of another worker while fewer than `at_once` are due here, and so nothing waits."""
        due, _ = await self._due(self.key)
        if len(due) < at_once and await self.queues.take(at_once - len(due)):
            self.queued.set()

    async def unbegun(self) -> Collection[tuple[bytes, float]]:
        """This worker's oldest due jobs without a lock, each with when it is due by whoever queued it."""
        found = await self._redis.zrangebyscore(
            self.key, "-inf", timestamp_ms(), start=0, num=_OLDEST, withscores=True
        )
        running = await self._are_locked([job for job, _ in found])
        return [each for each, busy in zip(found, running, strict=True) if not busy]

    async def _due(self, queue: str) -> tuple[Sequence[bytes], int]:
        now = timestamp_ms()  # rounded as arq rounds when it enqueues, else the newest job may not be due yet
        return await self._redis.zrangebyscore(queue, "-inf", now, start=0, num=_HEAD), now

    async def _are_locked(self, jobs: Sequence[bytes]) -> Sequence[bool]:
        if not jobs:
            return []
        # One command for all: this is asked all the time, and one each would be most of what a worker asks.
        locks = await self._redis.mget(in_progress_key_prefix.encode() + job for job in jobs)
        return [lock is not None for lock in locks]


def _is_soon(scores: Sequence[float | None], latest: Sequence[int]) -> bool:
    """Whether a job is in one of the queues, and due there by that queue's `latest`."""
    return any(score is not None and score <= until for score, until in zip(scores, latest, strict=True))
