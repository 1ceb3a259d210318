"""How long a page waits for the storage, which may hang."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from storage.errors import BlobsUnavailable

T = TypeVar("T")

WITHIN_S = 5.0


async def in_time(asked: Coroutine[Any, Any, T], within_s: float = WITHIN_S) -> T:
    """What the storage answers. Raises: BlobsUnavailable where it takes too long, and what it raises."""
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except TimeoutError as error:
        raise BlobsUnavailable(f"the storage did not answer within {within_s:g} s") from error
