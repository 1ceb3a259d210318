"""A time limit that counts only the time in which this process ran."""

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from types import TracebackType, coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_PARTS = 5


class AwakeTimeout:
    """Raises TimeoutError once its body has taken `seconds` in which this process was not stopped.

    A process that was stopped (SIGSTOP, a suspended machine) finds all of its timers due when it continues,
    and beside them the answers that came meanwhile. So the limit is several short waits: a stop costs it one.
    """

    def __init__(self, seconds: float) -> None:
        self._part_s = seconds / _PARTS
        self._left = _PARTS
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._part_s, self._part_is_over)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _part_is_over(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._part_s, self._part_is_over)
        else:
            self._limit.reschedule(self._loop.time())


async def awake_within(seconds: float, body: Coroutine[Any, Any, T]) -> T:
    """Return what the body returns. Raises: TimeoutError where it waits for longer, as `AwakeTimeout` does.

    A body that does not wait, as most do of those that read one reply of many, takes no timer.
    """
    try:
        waits_for = body.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    async with AwakeTimeout(seconds):
        return await _resumed(body, waits_for)


@coroutine
def _resumed(body: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Go on with a body that waits already."""
    while True:
        try:
            answer = yield waits_for
        except BaseException as error:
            go_on = partial(body.throw, error)
        else:
            go_on = partial(body.send, answer)
        try:
            waits_for = go_on()
        except StopIteration as ended:
            result: T = ended.value
            return result
