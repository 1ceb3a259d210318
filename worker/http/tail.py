"""The newest messages of the outbox, which everything that waits for news shares."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from storage.catalog.records import Message
from storage.errors import StorageError

log = structlog.get_logger(__name__)

Read = Callable[[int], Awaitable[Sequence[Message]]]
_POLL_S = 0.1


class Tail:
    """Follows the outbox, and wakes who waits."""

    def __init__(self, read: Read, newest: Callable[[], Awaitable[int]]) -> None:
        self._read = read
        self._newest = newest
        self._last: int | None = None
        self._changed = asyncio.Condition()

    async def follow(self) -> None:
        """Follow the outbox until cancelled."""
        while True:
            try:
                if self._last is None:
                    self._last = await self._newest()
                if messages := await self._read(self._last):
                    self._last = messages[-1].seq
                    async with self._changed:
                        self._changed.notify_all()
            except StorageError as error:
                log.warning("messages_not_read", reason=str(error))
            await asyncio.sleep(_POLL_S)

    async def news(self, within_s: float) -> bool:
        """Wait until there may be news of any upload; False once the time is over."""
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
