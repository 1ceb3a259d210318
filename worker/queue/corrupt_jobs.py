"""Jobs that arq cannot read: each would end every worker that meets it."""

import re
from math import isfinite

import orjson
from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from redis.exceptions import ResponseError

TICK = re.compile(rb"[\w.]+:[ -~]+:\d+")  # of a periodic task, or of what it began
_JOB_ID = re.compile(rb"[0-9a-f]{32}|" + TICK.pattern)  # of uploads, or of a tick
_PAYLOAD = {"t": int, "f": str, "a": list, "k": dict, "et": int}


async def remove_corrupt(redis: ArqRedis, queue: str) -> int:
    """Remove the corrupt jobs of a queue; returns how many.

    Only this project may write to a queue, and what they were to do is in the catalog.
    """
    try:
        found = await redis.zrange(queue, 0, -1, withscores=True)
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return int(await redis.delete(queue))  # it is no queue at all
    async with redis.pipeline(transaction=False) as pipe:
        for job, _ in found:
            pipe.get(job_key_prefix.encode() + job)
        payloads = await pipe.execute(raise_on_error=False)
    if refused := [one for one in payloads if isinstance(one, ResponseError) and "WRONGTYPE" not in str(one)]:
        raise refused[0]  # what is in those jobs is unknown
    bad = [
        job
        for (job, score), payload in zip(found, payloads, strict=True)
        if not is_sound(job, score, payload)
    ]
    if bad:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.zrem(queue, *bad)
            pipe.delete(*(job_key_prefix.encode() + job for job in bad))
            await pipe.execute()
    return len(bad)


def is_sound(job: bytes, score: float, payload: object) -> bool:
    """Whether arq survives that job; it drops one without a payload, and one whose payload is no JSON."""
    return bool(_JOB_ID.fullmatch(job)) and isfinite(score) and _is_readable(payload)


def _is_readable(payload: object) -> bool:
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
