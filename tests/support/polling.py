"""Waiting for what happens in another process, of which this one gets no event."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Ask every 10 ms, for at most 10 seconds."""
    async with asyncio.timeout(10):
        while not await true():  # noqa: ASYNC110 (another process's progress is no event)
            await asyncio.sleep(0.01)
