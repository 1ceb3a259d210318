"""Jobs that arq cannot read, and locks and counters that nobody of ours wrote: others write to Redis, too."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from redis.exceptions import RedisError, ResponseError

from worker.queue.replies import ReplyTooLarge

TICK = re.compile(rb"[\w.]+:[ -~]+:\d+")  # of a periodic task, or of what it began
LONGEST_LOCK_MS = 600_000  # other workers may have a longer lease than ours
MOST_UPLOADS = 1000  # of a job; one of ours has four for each decoder
_JOB_ID = re.compile(rb"[0-9a-f]{32}|" + TICK.pattern)  # of uploads, or of a tick
_LONGEST_ID = 500
_PAYLOAD = {"t": int, "f": str, "a": list, "k": dict, "et": int}
_LARGEST_PAYLOAD = 64 * 1024  # more than so many uploads take
_LAST_MS = 253_402_300_799_000  # the last second for which Python has a date
_LATEST = 2**53  # the score of a job: from here on Redis rounds it
_COUNT = re.compile(rb"\d{1,15}")
_PAGE = 200
_HEAD = 1000  # jobs that arq reads in a poll
_FOR_EVER = -1  # what PTTL says of a key that does not end
_OF_A_KEY = ("WRONGTYPE", "not an integer", "would overflow")


@dataclass(frozen=True)
class _Found:
    """A job in a queue with what Redis said of its keys: an error where one is of another type."""

    job: bytes
    score: float
    payload: object
    lock_ms: object
    tries: object

    def is_sound(self) -> bool:
        """Whether it can be run: without a payload there is nothing to do, unless somebody is at it."""
        lacks_payload = self.payload == b"" and not self.is_locked()
        return not lacks_payload and is_sound(self.job, self.score, self.payload or None)

    def is_locked(self) -> bool:
        return isinstance(self.lock_ms, int) and self.lock_ms >= 0

    def foreign_keys(self, longest_lock_ms: int) -> Sequence[bytes]:
        """The lock where it is nobody's, and the counter of tries where it counts nothing."""
        found = []
        if self.lock_ms == _FOR_EVER or (isinstance(self.lock_ms, int) and self.lock_ms > longest_lock_ms):
            found.append(in_progress_key_prefix.encode() + self.job)
        if self.tries != b"" and not (isinstance(self.tries, bytes) and _COUNT.fullmatch(self.tries)):
            found.append(retry_key_prefix.encode() + self.job)
        return found


async def remove_corrupt(
    redis: ArqRedis, queue: str, *, longest_lock_ms: int = LONGEST_LOCK_MS, head: bool = False
) -> int:
    """Remove the corrupt jobs of a queue, and what keeps others from being run; returns how many went.

    `head`: of those that arq reads in a poll, and of more only while some are corrupt.

    Only this project may write to a queue, and what they were to do is in the catalog.
    """
    try:
        return await _remove(redis, queue, longest_lock_ms, head=head)
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return int(await redis.delete(queue))  # it is no queue at all


async def _remove(redis: ArqRedis, queue: str, longest_lock_ms: int, *, head: bool) -> int:
    removed = kept = 0
    while True:
        jobs, too_large = await _page(redis, queue, kept, _PAGE)
        page = await _look_at(redis, jobs)
        bad = [one.job for one in page if not one.is_sound()]
        foreign = [key for one in page for key in one.foreign_keys(longest_lock_ms)]
        if bad or foreign:
            async with redis.pipeline(transaction=True) as pipe:
                if bad:
                    pipe.zrem(queue, *bad)
                pipe.delete(*foreign, *(job_key_prefix.encode() + job for job in bad))
                await pipe.execute()
        kept += len(page) - len(bad)
        removed += len(bad) + too_large
        if not page and not too_large:
            return removed
        if head and kept >= _HEAD and not bad and not foreign:
            return removed


async def _page(
    redis: ArqRedis, queue: str, start: int, count: int
) -> tuple[Sequence[tuple[bytes, float]], int]:
    """Up to `count` jobs, with how many were removed because their very names are too large to be read."""
    try:
        return await redis.zrange(queue, start, start + count - 1, withscores=True), 0
    except ReplyTooLarge:
        if count == 1:
            return [], int(await redis.zremrangebyrank(queue, start, start))
        return await _page(redis, queue, start, count // 2)


async def _look_at(redis: ArqRedis, jobs: Sequence[tuple[bytes, float]]) -> Sequence[_Found]:
    if not jobs:
        return []
    async with redis.pipeline(transaction=False) as pipe:
        for job, _ in jobs:
            # Of a payload no more than is to be read; "" where there is none.
            pipe.getrange(job_key_prefix.encode() + job, 0, _LARGEST_PAYLOAD)
            pipe.pttl(in_progress_key_prefix.encode() + job)
            pipe.getrange(retry_key_prefix.encode() + job, 0, 20)
        answers = await pipe.execute(raise_on_error=False)
    errors = (one for one in answers if isinstance(one, ResponseError))
    if refused := next((one for one in errors if "WRONGTYPE" not in str(one)), None):
        raise refused  # what is in those jobs is unknown
    return [
        _Found(job, score, payload, lock_ms, tries)
        for (job, score), payload, lock_ms, tries in zip(
            jobs, answers[::3], answers[1::3], answers[2::3], strict=True
        )
    ]


def is_name(job: bytes) -> bool:
    """Whether a job can be called so."""
    return len(job) <= _LONGEST_ID and bool(_JOB_ID.fullmatch(job))


def is_sound(job: bytes, score: float, payload: object) -> bool:
    """Whether arq survives that job; it drops one without a payload, and one whose payload is no JSON."""
    return is_name(job) and 1 <= score <= _LATEST and _is_readable(payload)


def _is_readable(payload: object) -> bool:
    if isinstance(payload, bytes) and len(payload) > _LARGEST_PAYLOAD:
        return False
    try:
        job = orjson.loads(payload) if isinstance(payload, bytes) else payload
    except orjson.JSONDecodeError:
        return True
    if payload is None:
        return True
    return (
        isinstance(job, dict)
        and all(
            isinstance(job.get(name), kind) or (name == "t" and job.get(name) is None)
            for name, kind in _PAYLOAD.items()
        )
        and 0 <= job["et"] <= _LAST_MS
    )


def is_of_a_job(error: Exception) -> bool:
    """Whether what arq raised of a job is the fault of what is in Redis, and not of a Redis that is away."""
    if isinstance(error, ResponseError):
        return any(words in str(error) for words in _OF_A_KEY)
    return isinstance(error, ReplyTooLarge) or not isinstance(error, (RedisError, OSError))
