"""Messages out: each notice is sent, then marked as sent; what is left unmarked is sent again later."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from storage.catalog.facts import Notice
from storage.catalog.outbox import Outbox
from storage.errors import CatalogUnavailable
from worker.events import message
from worker.queue import UNREACHABLE, Queue, RedisError

log = structlog.get_logger(__name__)

_PATIENCE_S = 5.0  # with a Redis or catalog that is slow when the worker ends; the outbox keeps the rest


class Announcer:
    """Tells the outside, in the background, in the order of what it was handed."""

    def __init__(self, outbox: Outbox, queue: Queue) -> None:
        self._outbox = outbox
        self._queue = queue
        self._waiting: list[Notice] = []
        self._wake = asyncio.Event()
        self._sending: asyncio.Future[None] | None = None

    def tell(self, notices: Sequence[Notice]) -> None:
        """Send `notices` as soon as possible, without waiting for it."""
        self._waiting.extend(notices)
        self._wake.set()

    async def run(self) -> None:
        """Send what is told, for ever; what is being sent when this is cancelled, `close` waits for."""
        while True:
            await self._wake.wait()
            self._sending = asyncio.ensure_future(self.flush())
            await asyncio.shield(self._sending)

    async def flush(self) -> None:
        """Send everything that waits. What cannot be sent stays unmarked in the outbox."""
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            await self.send(waiting)
        except (*UNREACHABLE, RedisError, CatalogUnavailable) as error:
            log.warning("messages_delayed", count=len(waiting), reason=str(error))

    async def send(self, notices: Sequence[Notice]) -> None:
        """Send `notices` now and mark them. Raises: RedisError, OSError, CatalogUnavailable."""
        ordered = sorted(notices, key=lambda notice: notice.seq)
        await self._queue.send([message(notice) for notice in ordered])
        await self._outbox.mark_sent(ordered)

    async def close(self) -> None:
        """Send what still waits, if that goes quickly."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                if self._sending is not None:
                    await self._sending
                await self.flush()
