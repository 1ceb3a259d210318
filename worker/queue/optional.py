"""Commands that a worker can do without, where its user may not run them."""

from collections.abc import Awaitable
from typing import TypeVar

from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from redis.exceptions import ResponseError

from worker.queue.refusals import is_missing_right

T = TypeVar("T")


async def unless_denied(asked: Awaitable[T]) -> T | None:
    """The answer, or None where this user may not run the command, as is common on a hosted Redis."""
    try:
        return await asked
    except ResponseError as error:
        if is_missing_right(error):
            return None
        raise


async def now_ms(redis: ArqRedis) -> int:
    """Now by Redis' clock, which gives entries their IDs, in ms since 1970.

    By this machine's clock, where this user may not ask for Redis'.
    """
    found = await unless_denied(redis.time())
    if found is None:
        return timestamp_ms()
    seconds, microseconds = found
    return int(seconds) * 1000 + int(microseconds) // 1000
