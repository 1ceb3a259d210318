"""The Redis that the settings name, as `media doctor` finds it."""

from collections.abc import Sequence

from worker.health import Finding, judge_redis
from worker.queue import UNREACHABLE, RedisError, open_queue
from worker.settings import Settings


async def look_at_redis(settings: Settings) -> Sequence[Finding]:
    """What the Redis says of itself, or why it does not answer."""
    try:
        async with open_queue(settings) as queue:
            return judge_redis(await queue.facts())
    except (*UNREACHABLE, RedisError) as error:
        advice = "Start Redis, or correct MEDIA_REDIS_URL."
        return [Finding("Redis", "error", f"does not answer: {error}", advice)]
