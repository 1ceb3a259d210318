"""Coroutines at work together, none of which outlives the one who waits for them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """What `works` give, in their order; the first error ends the others and is raised as it is.

    `asyncio.gather` leaves at the first error or cancellation while the others still work with what the
    caller then closes.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
