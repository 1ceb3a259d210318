"""How jobs move from one queue to another: what its worker may have begun meanwhile stays."""

from collections.abc import Mapping, Sequence
from itertools import islice

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.utils import timestamp_ms
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError, WatchError

from worker.queue.corrupt_jobs import TICK, is_sound

WAITED_MS = 1000  # a worker that has room begins a job much sooner
_LOOKED_THROUGH = 100  # of the last jobs to come: some may be in work
_PAGE = 1000
KEPT_S = 25 * 3600  # a queue that nobody looks after; arq keeps a job for a day


async def take_waiting(redis: ArqRedis, queue: str, target: str, most: int) -> bool:
    """Take up to `most` jobs that have waited in `queue`; returns whether there were any.

    The last to come are taken: the others their own worker may begin at any moment. Ticks come last: a worker
    that is stuck has more of them with each interval, and they would hide the uploads.
    """
    waited_since = timestamp_ms() - WAITED_MS
    async with redis.pipeline(transaction=True) as pipe:
        await pipe.watch(queue)
        found = await pipe.zrevrangebyscore(
            queue, waited_since, "-inf", start=0, num=_LOOKED_THROUGH, withscores=True
        )
        free = sorted((await _untaken(pipe, found)).items(), key=lambda each: bool(TICK.fullmatch(each[0])))
        return bool(free) and await _spread(pipe, queue, [target], dict(free[:most]))


async def share_out(redis: ArqRedis, queue: str, targets: Sequence[str]) -> bool:
    """Spread what is not begun in `queue` over `targets`; False where it changed meanwhile."""
    async with redis.pipeline(transaction=True) as pipe:
        await pipe.watch(queue)
        free = await _untaken(pipe, await pipe.zrange(queue, 0, -1, withscores=True))
        return not free or await _spread(pipe, queue, targets, free)


async def _spread(pipe: Pipeline, queue: str, targets: Sequence[str], jobs: Mapping[bytes, float]) -> bool:
    """Move jobs; False where their worker, or another one that has nothing to do, was quicker."""
    pipe.multi()  # type: ignore[no-untyped-call]
    for at, target in enumerate(targets[: len(jobs)]):
        pipe.zadd(target, dict(islice(jobs.items(), at, None, len(targets))))
        pipe.expire(target, KEPT_S)
    pipe.zrem(queue, *jobs)
    try:
        await pipe.execute()
    except WatchError:
        return False
    return True


async def move_all(
    redis: ArqRedis, queue: str, target: str, index: str, entries: Mapping[str, float]
) -> None:
    """Move a whole queue, and write these entries of the index."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zunionstore(target, [target, queue], aggregate="MIN")
        pipe.expire(target, KEPT_S)
        pipe.delete(queue)
        if entries:
            pipe.zadd(index, entries)
        answers = await pipe.execute(raise_on_error=False)
    for answer in answers:
        # A key of another type is no queue; the other commands have removed it.
        if isinstance(answer, ResponseError) and "WRONGTYPE" not in str(answer):
            raise answer


async def move_uploads(redis: ArqRedis, queue: str, target: str) -> None:
    """Move the jobs with uploads of a living worker, also those that it has begun; its ticks stay.

    arq keeps the lock of a tick that has ended for a minute: elsewhere it would be waited for.
    """
    stay = 0
    while page := await redis.zrange(queue, stay, stay + _PAGE - 1, withscores=True):
        jobs = {job: due for job, due in page if not TICK.fullmatch(job)}
        stay += len(page) - len(jobs)
        if jobs:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.zadd(target, jobs)
                pipe.expire(target, KEPT_S)
                pipe.zrem(queue, *jobs)
                await pipe.execute()


async def _untaken(pipe: Pipeline, found: Sequence[tuple[bytes, float]]) -> Mapping[bytes, float]:
    """Those of the jobs found that nobody runs, watched until the transaction; a corrupt one is none."""
    if not found:
        return {}
    locks = [in_progress_key_prefix.encode() + job for job, _ in found]
    await pipe.watch(*locks)
    values = await pipe.mget(*locks, *(job_key_prefix.encode() + job for job, _ in found))
    held, payloads = values[: len(locks)], values[len(locks) :]
    return {
        job: due
        for (job, due), lock, payload in zip(found, held, payloads, strict=True)
        if lock is None and payload is not None and is_sound(job, due, payload)
    }
