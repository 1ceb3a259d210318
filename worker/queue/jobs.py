"""The queue of jobs: what a worker does with arq's keys beyond what arq does itself."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from math import isfinite
from uuid import UUID

import orjson
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.utils import timestamp_ms
from redis.exceptions import ResponseError

from worker.queue.mapping import maps_errors
from worker.queue.ownership import Ownership

PROCESS = "process_batch"  # the arq function that works on uploads

_TICK = re.compile(rb"[\w.]+:[ -~]+:\d+")  # of a periodic task, or of what it began
_JOB_ID = re.compile(rb"[0-9a-f]{32}|" + _TICK.pattern)  # of uploads, or of a tick
_PAYLOAD = {"t": int, "f": str, "a": list, "k": dict, "et": int}
_JOB_KEYS = (job_key_prefix, in_progress_key_prefix, retry_key_prefix)
_ARQS_LOCK = b"1"  # what arq itself writes when a job starts
_LONGEST_PAUSE_MS = 60_000  # of a batch as a whole
_LATEST_MS = 20 * 60_000  # twice the longest that an upload is put off
_OLDEST = 200  # jobs at the head of the queue, for the health
_HEAD = 1000  # jobs that arq itself reads in a poll


def job_queue_of(stream: str) -> str:
    """The name of arq's queue: each stream has its own, so that two installations can share a Redis."""
    return f"{stream}:jobs"


@maps_errors
class Jobs:
    """The jobs of one stream, in arq's queue `key`."""

    def __init__(self, redis: ArqRedis, stream: str, consumer: str, ownership: Ownership) -> None:
        self.key = job_queue_of(stream)
        self.queued = asyncio.Event()  # a job was enqueued from here
        self._redis = redis
        self._stream = stream
        self._consumer = consumer
        self._ownership = ownership

    async def enqueue(self, job_ids: Mapping[str, Sequence[UUID]]) -> None:
        """Enqueue a job for the uploads under each job ID. If Redis' answer is lost, the reconciler requeues.

        Raises: StreamMismatch where the stream is another catalog's by now.
        """
        await self._ownership.check(lately=True)
        for job_id, ids in job_ids.items():
            await self._redis.enqueue_job(PROCESS, [str(upload_id) for upload_id in ids], _job_id=job_id)
        self.queued.set()

    async def enqueue_task(self, name: str, since_ms: int) -> None:
        """Enqueue the task that began at `since_ms`, unless it is queued already."""
        task = f"{name}:{self._stream}"
        await self._redis.enqueue_job(task, since_ms, _job_id=f"{task}:{since_ms}")
        self.queued.set()

    async def alive(self, job_ids: Sequence[str], longest_lock_ms: int = 600_000) -> frozenset[str]:
        """Those of `job_ids` that wait in the queue or are running.

        A lock with arq's own value does not count: its worker died before it could turn it into a lease.
        Nor does a job that is due later than the longest pause of a batch, or a lock that lasts longer than
        any lease: a clock that was ahead wrote them.
        """
        latest = timestamp_ms() + _LONGEST_PAUSE_MS
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.get(in_progress_key_prefix + job_id)
                pipe.exists(job_key_prefix + job_id)
                pipe.zscore(self.key, job_id)
                pipe.pttl(in_progress_key_prefix + job_id)
            answers = await pipe.execute()
        states = zip(job_ids, *(answers[each::4] for each in range(4)), strict=True)
        return frozenset(
            job_id
            for job_id, holder, payload, score, left_ms in states
            if holder != _ARQS_LOCK
            and left_ms <= longest_lock_ms
            and (holder is not None or (payload and score is not None and score <= latest))
        )

    async def make_due(self, job_ids: Sequence[str]) -> None:
        if job_ids:
            await self._redis.zadd(self.key, dict.fromkeys(job_ids, timestamp_ms()), xx=True)
            self.queued.set()

    async def pull_in(self) -> None:
        """Make jobs due that are postponed for longer than any can be: a clock that was ahead did that."""
        later = timestamp_ms() + _LATEST_MS
        found = await self._redis.zrangebyscore(self.key, later, "+inf", start=0, num=_HEAD)
        if found:
            await self._redis.zadd(self.key, dict.fromkeys(found, timestamp_ms()), xx=True)

    async def discard(self, job_ids: Sequence[str]) -> None:
        """Remove all keys of jobs whose uploads have moved to other jobs."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for job_id in job_ids:
                pipe.zrem(self.key, job_id)
                pipe.delete(*(prefix + job_id for prefix in _JOB_KEYS))
            await pipe.execute()

    async def remove_corrupt(self) -> int:
        """Remove jobs that arq cannot read, which would end every worker that meets them; returns how many.

        Only this project may write to the queue, and what they were to do is in the catalog.
        """
        try:
            found = await self._redis.zrange(self.key, 0, -1, withscores=True)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return int(await self._redis.delete(self.key))  # it is no queue at all
        async with self._redis.pipeline(transaction=False) as pipe:
            for job, _ in found:
                pipe.get(job_key_prefix.encode() + job)
            payloads = await pipe.execute(raise_on_error=False)
        if refused := [
            one for one in payloads if isinstance(one, ResponseError) and "WRONGTYPE" not in str(one)
        ]:
            raise refused[0]  # what is in those jobs is unknown
        bad = [
            job
            for (job, score), payload in zip(found, payloads, strict=True)
            if not (_JOB_ID.fullmatch(job) and isfinite(score) and _is_readable(payload))
        ]
        if bad:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self.key, *bad)
                pipe.delete(*(job_key_prefix.encode() + job for job in bad))
                await pipe.execute()
        return len(bad)

    async def renew(self, job_id: str, lease_s: float) -> bool:
        """Keep the job's lock for `lease_s` more seconds; False when another worker has it now."""
        key = in_progress_key_prefix + job_id
        holder = await self._redis.get(key)
        if holder not in (None, _ARQS_LOCK, self._consumer.encode()):
            return False
        await self._redis.set(key, self._consumer, px=int(lease_s * 1000))
        return True

    async def waiting(self) -> int:
        """How many jobs with uploads are due, running ones included; postponed ones are not counted."""
        due, now = await self._due()
        jobs = sum(not _TICK.fullmatch(job) for job in due)
        if len(due) < _HEAD:
            return jobs
        return jobs + int(await self._redis.zcount(self.key, "-inf", now)) - _HEAD

    async def untaken(self) -> int:
        """How many due jobs have no lock, among those that a worker reads in a poll.

        Locked ones are running, or were when their worker died; neither may pause the intake.
        """
        due, _ = await self._due()
        return len(due) - sum(await self._are_locked(due))

    async def longest_due_s(self) -> float | None:
        """How long the oldest due job without a lock has been due, in s; None: there is none."""
        due = await self._redis.zrangebyscore(
            self.key, "-inf", time.time() * 1000, start=0, num=_OLDEST, withscores=True
        )
        if not due:
            return None
        running = await self._are_locked([job for job, _ in due])
        waiting = [score for (_, score), busy in zip(due, running, strict=True) if not busy]
        return time.time() - min(waiting) / 1000 if waiting else None

    async def _due(self) -> tuple[Sequence[bytes], int]:
        now = timestamp_ms()  # rounded as arq rounds when it enqueues, else the newest job may not be due yet
        return await self._redis.zrangebyscore(self.key, "-inf", now, start=0, num=_HEAD), now

    async def _are_locked(self, jobs: Sequence[bytes]) -> Sequence[bool]:
        if not jobs:
            return []
        # One command for all: this is asked all the time, and one each would be most of what a worker asks.
        locks = await self._redis.mget(in_progress_key_prefix.encode() + job for job in jobs)
        return [lock is not None for lock in locks]


def _is_readable(payload: object) -> bool:
    """Whether arq survives that payload of a job; it drops a missing one, and one that is no JSON."""
    try:
        job = orjson.loads(payload) if isinstance(payload, bytes) else payload
    except orjson.JSONDecodeError:
        return True
    if payload is None:
        return True
    return isinstance(job, dict) and all(
        isinstance(job.get(name), kind) or (name == "t" and job.get(name) is None)
        for name, kind in _PAYLOAD.items()
    )
