"""Messages out: each notice is sent, then marked as sent; what is left unmarked is sent again later."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from storage.catalog.facts import Notice
from storage.catalog.outbox import Outbox
from storage.errors import CatalogUnavailable
from worker.events import message
from worker.queue import UNREACHABLE, Queue, RedisError

log = structlog.get_logger(__name__)

_MARKED_AFTER_S = 1.0  # a message that was sent: many share one transaction
_PATIENCE_S = 5.0  # with a Redis or catalog that is slow when the worker ends; the outbox keeps the rest


class Announcer:
    """Tells the outside, in the background, in the order of what it was handed."""

    def __init__(self, outbox: Outbox, queue: Queue) -> None:
        self._outbox = outbox
        self._queue = queue
        self._waiting: list[Notice] = []
        self._sent: list[Notice] = []
        self._sent_at = 0.0
        self._wake = asyncio.Event()
        self._sending: asyncio.Future[None] | None = None

    def tell(self, notices: Sequence[Notice]) -> None:
        """Send `notices` as soon as possible, without waiting for it."""
        self._waiting.extend(notices)
        self._wake.set()

    async def run(self) -> None:
        """Send what is told, for ever; what is being sent when this is cancelled, `close` waits for."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            self._sending = asyncio.ensure_future(self.flush())
            await asyncio.shield(self._sending)

    async def flush(self) -> None:
        """Send what waits, and mark what was sent a while ago; what cannot be sent stays unmarked."""
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        try:
            if waiting:
                await self._tell(waiting)
            if self._pause_s() == 0:
                await self._mark()
        except (*UNREACHABLE, RedisError, CatalogUnavailable) as error:
            log.warning("messages_delayed", count=len(waiting), reason=str(error))

    async def send(self, notices: Sequence[Notice]) -> None:
        """Send `notices` now and mark them; none that was handed to `tell` too goes out twice.

        Raises: RedisError, OSError, CatalogUnavailable.
        """
        taken, sent = ({notice.seq for notice in some} for some in (notices, self._sent))
        self._waiting = [notice for notice in self._waiting if notice.seq not in taken]
        await self._tell([notice for notice in notices if notice.seq not in sent])
        await self._mark()

    async def close(self) -> None:
        """Send what still waits and mark it, if that goes quickly."""
        with suppress(TimeoutError, CatalogUnavailable):
            async with asyncio.timeout(_PATIENCE_S):
                if self._sending is not None:
                    await self._sending
                await self.flush()
                await self._mark()

    def _pause_s(self) -> float | None:
        """How long what was sent may still stay unmarked; None where there is nothing to mark."""
        return max(0.0, self._sent_at + _MARKED_AFTER_S - time.monotonic()) if self._sent else None

    async def _tell(self, notices: Sequence[Notice]) -> None:
        ordered = sorted(notices, key=lambda notice: notice.seq)
        await self._queue.send([message(notice) for notice in ordered])
        if not self._sent:
            self._sent_at = time.monotonic()
        self._sent += ordered

    async def _mark(self) -> None:
        sent, self._sent = self._sent, []
        if sent:
            await self._outbox.mark_sent(sent)
