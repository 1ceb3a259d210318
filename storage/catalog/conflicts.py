"""Units of work that a database undid because they got in one another's way: each is done once more."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from storage.errors import CatalogConflict

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 6
_PAUSE_S = 0.02  # doubled each time, and anything between nothing and that


def repeated(verb: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """The verb, done again where the database undid a transaction of it: at once, then after pauses.

    What its transactions before that one have done must stay right when it is done once more.

    Raises: CatalogConflict once that happened every time.
    """

    @wraps(verb)
    async def done(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(TRIES - 1):
            try:
                return await verb(*args, **kwargs)
            except CatalogConflict:
                await asyncio.sleep(_pause_s(attempt))
        return await verb(*args, **kwargs)

    return done


def _pause_s(attempt: int) -> float:
    return random.uniform(0, _PAUSE_S * 2**attempt) if attempt else 0  # noqa: S311 (no secret)
