"""What a worker asks of Redis and can do without, where its user may not ask."""

from collections.abc import Awaitable
from typing import TypeVar

from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from redis.exceptions import ResponseError

from worker.queue.refusals import is_missing_right

T = TypeVar("T")


async def unless_denied(asked: Awaitable[T]) -> T | None:
    """The answer to what can be done without; None where this user may not ask, as one who rents a Redis."""
    try:
        return await asked
    except ResponseError as error:
        if is_missing_right(error):
            return None
        raise


async def now_ms(redis: ArqRedis) -> int:
    """This moment by Redis' clock, which gives entries their IDs, in ms since 1970.

    By this machine's, where Redis does not tell its own.
    """
    found = await unless_denied(redis.time())
    if found is None:
        return timestamp_ms()
    seconds, microseconds = found
    return int(seconds) * 1000 + int(microseconds) // 1000
