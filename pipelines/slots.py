"""Places for so many at a time; one can be had, or all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


class Slots:
    """`count` places, of which `busy` are taken."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.busy = 0
        self._free = asyncio.Semaphore(count)
        self._exclusive = asyncio.Lock()  # two that wait for all of them would keep them from each other

    def __repr__(self) -> str:
        return f"<Slots: {self.busy} of {self.count} busy>"

    @property
    def are_free(self) -> bool:
        """Whether whoever asks for a place now does not wait."""
        return not self._free.locked()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        async with self._free:
            self.busy += 1
            try:
                yield
            finally:
                self.busy -= 1

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """All places at once: nobody is beside the holder."""
        async with self._exclusive, AsyncExitStack() as taken:
            for _ in range(self.count):
                await taken.enter_async_context(self.one())
            yield
