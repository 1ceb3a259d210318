"""How much is decoded at once: the one place that bounds CPU and memory; everyone else awaits it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Admission:
    """Gives out `slots` decoders and `budget` bytes, each in the order of asking."""

    def __init__(self, slots: int, budget: int) -> None:
        self.slots = slots
        self.budget = budget
        self._free = budget
        self._slots = asyncio.Semaphore(slots)
        self._loner = asyncio.Lock()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One decoder's place."""
        async with self._slots:
            yield

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """All places at once: nobody decodes beside the holder."""
        taken = 0
        async with self._loner:
            try:
                for _ in range(self.slots):
                    await self._slots.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._slots.release()

    @asynccontextmanager
    async def memory(self, need: int) -> AsyncIterator[None]:
        """`need` bytes of the budget, which must be able to hold them. Small wishes wait behind a big one."""
        await self._take(need)
        try:
            yield
        finally:
            self._free += need
            self._serve()

    async def _take(self, need: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((need, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += need
            else:
                self._waiting.remove((need, turn))
            self._serve()
            raise

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            need, turn = self._waiting.popleft()
            self._free -= need
            turn.set_result(None)
