"""The outbox publisher: it sends each message, then marks it as sent; an unmarked one is sent again later."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from pipelines.metrics import NO_METRICS, Metrics
from pipelines.traces import NO_TRACES, Traces
from storage.catalog.outbox import Outbox
from storage.catalog.records import Claim, Message
from storage.catalog.starts import Starts
from storage.errors import CatalogUnavailable, StorageError
from worker.documents import payload, started_message
from worker.queue import Queue, QueueUnavailable
from worker.srcset import Link

log = structlog.get_logger(__name__)

_MARKED_AFTER_S = 1.0  # a message that was sent: many share one transaction
_STARTS_WITHIN_S = 0.5  # what is told of starts is found out, or is not told: outcomes wait meanwhile
_CLOSE_TIMEOUT_S = 5.0  # with a Redis or catalog that is slow when the worker ends; the outbox keeps the rest


class OutboxPublisher:
    """Sends messages in the background, in the order in which they were handed over."""

    def __init__(
        self,
        outbox: Outbox,
        queue: Queue,
        metrics: Metrics = NO_METRICS,
        traces: Traces = NO_TRACES,
        link: Link = str,
        on_messages: Callable[[], object] = lambda: None,
        starts: Starts | None = None,
    ) -> None:
        """`link` leads to a variant, in the srcset of messages; `on_messages` is told of some.

        Without `starts` nothing is told of those.
        """
        self._outbox = outbox
        self._queue = queue
        self._metrics = metrics
        self._traces = traces
        self._link = link
        self._on_messages = on_messages
        self._starts = starts
        self._begun: list[Claim] = []
        self._waiting: list[Message] = []
        self._sent: list[Message] = []
        self._sent_at = 0.0
        self._wake = asyncio.Event()
        self._sending: asyncio.Future[None] | None = None

    def publish(self, messages: Sequence[Message]) -> None:
        """Send `messages` as soon as possible, without waiting for it."""
        self._waiting.extend(messages)
        self._wake.set()
        self._on_messages()

    def begun(self, claim: Claim) -> None:
        """Tell that work on an upload begins, before any message that is handed over from now on.

        Nobody waits for it, and it may get lost.
        """
        if self._starts is not None:
            self._begun.append(claim)
            self._wake.set()

    async def run(self) -> None:
        """Send what `publish` was called with, until cancelled; `close` waits for what is being sent then."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            self._sending = asyncio.ensure_future(self.flush())
            await asyncio.shield(self._sending)

    async def flush(self) -> None:
        """Send what waits, and mark what was sent a while ago; what cannot be sent stays unmarked."""
        self._wake.clear()
        begun, self._begun = self._begun, []
        started = await self._started(begun) if begun else []
        waiting, self._waiting = self._waiting, []
        try:
            if started or waiting:
                await self._publish(waiting, started)
        except QueueUnavailable as error:
            if waiting:
                log.warning("messages_delayed", count=len(waiting), reason=str(error))
            else:  # nobody waits for those
                log.debug("starts_not_told", count=len(started), reason=str(error))
            return
        sent = len(self._sent)
        try:
            if self._pause_s() == 0:
                await self._mark()
        except CatalogUnavailable as error:  # they are sent once more
            log.warning("messages_not_marked", count=sent, reason=str(error))

    async def send(self, messages: Sequence[Message]) -> None:
        """Send `messages` now and mark them; none that was handed to `publish` too is sent twice.

        Raises: QueueUnavailable, CatalogUnavailable.
        """
        taken, sent = ({message.seq for message in some} for some in (messages, self._sent))
        self._waiting = [message for message in self._waiting if message.seq not in taken]
        await self._publish([message for message in messages if message.seq not in sent])
        await self._mark()

    async def newest_seq(self) -> int:
        """The greatest `seq` that apps have had, or are about to have of this process.

        Raises: CatalogUnavailable where nobody can say.
        """
        waiting = max((message.seq for message in self._waiting), default=0)
        try:
            return max(waiting, await self._queue.messages.newest_seq())
        except QueueUnavailable as error:
            raise CatalogUnavailable(
                f"the catalog was away, and Redis does not say up to which number messages went out: {error}"
            ) from error

    async def close(self) -> None:
        """Send what still waits and mark it, if that goes quickly."""
        with suppress(TimeoutError, CatalogUnavailable):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if self._sending is not None:
                    await self._sending
                await self.flush()
                await self._mark()

    def _pause_s(self) -> float | None:
        """How long what was sent may still stay unmarked; None where there is nothing to mark."""
        return max(0.0, self._sent_at + _MARKED_AFTER_S - time.monotonic()) if self._sent else None

    async def _started(self, claims: Sequence[Claim]) -> list[dict[str, Any]]:
        if self._starts is None:
            return []
        try:
            async with asyncio.timeout(_STARTS_WITHIN_S):
                found = await self._starts.find(claims)
        except (TimeoutError, StorageError) as error:
            log.debug("starts_not_told", count=len(claims), reason=str(error))
            return []
        return [started_message(one) for one in found]

    async def _publish(self, messages: Sequence[Message], started: Sequence[dict[str, Any]] = ()) -> None:
        """Send `messages` in their order, behind those that were `started`."""
        ordered = sorted(messages, key=lambda message: message.seq)
        payloads = [*started, *(payload(message, self._link) for message in ordered)]
        told = self._queue.apps.domains.told
        also_to = [told(None, each["source"]) for each in started]
        also_to += [told(each.stream, each.source) for each in ordered]
        with self._traces.sending(payloads):
            await self._queue.messages.send(payloads, also_to)
        self._metrics.messages_sent([sent["type"] for sent in payloads])
        if ordered and not self._sent:
            self._sent_at = time.monotonic()
        self._sent += ordered

    async def _mark(self) -> None:
        sent, self._sent = self._sent, []
        if sent:
            await self._outbox.mark_sent(sent)


async def go_on_above(outbox: Outbox, queue: Queue, *, rebuilt: bool = False, least: int = 0) -> int | None:
    """Number the next message above the newest one on the stream: `seq` never goes back, nor after a restore.

    If the stream is empty, `seq` begins at the clock (ms since 1970, below 2**53), which is above everything
    counted one by one; but only for a catalog that has sent messages (it may be a backup) or was `rebuilt`.
    It is above `least` in any case.

    Returns the number that `seq` was raised to; None if the catalog's own is high enough.

    Raises: QueueUnavailable, CatalogUnavailable.
    """
    given = await outbox.given_seq()
    newest = await queue.messages.newest_seq()
    floor = max(least, newest or (outbox.now_ms() if given or rebuilt else 0))
    if floor <= given:
        return None
    await outbox.begin_above(floor)
    return floor
