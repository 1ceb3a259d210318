"""The Redis that the settings name, as `media doctor` finds it."""

from collections.abc import Sequence

from worker.health import Finding, judge_redis
from worker.queue import UNREACHABLE, RedisError, open_queue
from worker.refusals import Refusal, refusal_of
from worker.settings import Settings


async def look_at_redis(settings: Settings) -> Sequence[Finding]:
    """What the Redis says of itself, or why it does not answer."""
    try:
        async with open_queue(settings) as queue:
            refusal = await queue.refusal()
            findings = [*judge_redis(await queue.facts())]
    except (*UNREACHABLE, RedisError) as error:
        if refusal := refusal_of(error):
            return [refused(refusal)]
        advice = "Start Redis, or correct MEDIA_REDIS_URL."
        return [Finding("Redis", "error", f"does not answer: {error}", advice)]
    return [refused(refusal), *findings] if refusal else [ANSWERS, *findings]


ANSWERS = Finding("Redis", "ok", "answers, and does all that a worker asks of it")


def refused(refusal: Refusal) -> Finding:
    """What Redis refuses."""
    return Finding("Redis", "error", refusal.what, refusal.remedy)
