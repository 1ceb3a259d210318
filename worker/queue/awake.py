"""A time limit that counts only the time in which this process ran."""

import asyncio
from types import TracebackType

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
