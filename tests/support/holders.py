"""Tasks that hold a place, or some memory, until a test lets them leave."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress


class Holders:
    """Tasks that hold something until the test lets them leave."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self._exits: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def enter(self, name: str, place: AbstractAsyncContextManager[None]) -> None:
        self._exits[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._stay(name, place))
        await self.settle()

    def let_go(self, name: str) -> None:
        """Let it leave as soon as it can."""
        self._exits[name].set()

    async def leave(self, name: str) -> None:
        self.let_go(name)
        await self.settle()

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[name]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def _stay(self, name: str, place: AbstractAsyncContextManager[None]) -> None:
        async with place:
            self.inside.append(name)
            try:
                await self._exits[name].wait()
            finally:
                self.inside.remove(name)
