"""How long a page waits for Redis, which may hang: its client tries again for longer than people wait."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.queue import QueueUnavailable

T = TypeVar("T")

WITHIN_S = 2.0


async def in_time(asked: Coroutine[Any, Any, T]) -> T:
    """What Redis answers. Raises: QueueUnavailable where it takes too long, and what it raises."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return await asked
    except TimeoutError as error:
        raise QueueUnavailable(f"nothing came within {WITHIN_S:g} s") from error
