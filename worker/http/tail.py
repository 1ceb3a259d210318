"""The newest messages of the outbox: read once for all who wait for news, and kept for a while."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from uuid import UUID

import orjson
import structlog

from storage.catalog.reading import Reader
from storage.catalog.records import Message
from storage.errors import StorageError
from worker.documents import payload
from worker.outage_log import OutageLog
from worker.queue import QueueUnavailable
from worker.queue.messages import Messages
from worker.srcset import Link

log = structlog.get_logger(__name__)

RING = 1000  # messages that are kept
TOGETHER_S = 0.025  # what is committed within this time is read at once, and so sent at once
POLL_S = 1.0  # after which the outbox is read whether or not Redis says that there is something
_PAGE = 500
_BLOCK_MS = 2000  # less than a Redis that hangs is waited for
_LATE_S = 0.05  # after which what Redis has told, and a replica does not know yet, is looked for again
_REPLAY_PAGE = 100
_REPLAYS = 2  # pages at a time: who was away long must not keep others from reading


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message as clients get it, and what says which of them may."""

    seq: int
    id: UUID | None
    type: str
    source: str | None
    owner: str | None
    data: bytes  # JSON

    @classmethod
    def of(cls, message: Message, link: Link) -> "SentMessage":
        """The very message that is on the stream of messages."""
        body = payload(message, link)
        return cls(message.seq, message.id, body["type"], message.source, message.owner, orjson.dumps(body))


class Subscription:
    """Somebody who waits for news. It keeps none: it is only told that there are some."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have `news` return, now or when it is called."""
        self._woken.set()

    async def news(self, within_s: float) -> bool:
        """Wait until there may be news since the last call; False once the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._woken.wait()
        found = self._woken.is_set()
        self._woken.clear()
        return found


class Tail:
    """Follows the outbox, keeps its newest messages, and wakes who waits for them.

    `seq` is given in the order of the commits, so nothing comes later below what was read.
    """

    def __init__(self, reader: Callable[[], Reader], arrivals: Messages, link: Link = str) -> None:
        self._link = link
        self._reader = reader
        self._arrivals = arrivals
        self.last: int | None = None
        """The greatest `seq` that was read; None before the first look."""
        self.turns = 0
        """How often the catalog or Redis has gone, or has come back."""
        self.turned_at = self.redis_back_at = float("-inf")
        """When that was the last time, and when Redis has come back (by `time.monotonic`)."""
        self._kept_after = 0  # the messages after this `seq` are all in the ring
        self._ring: deque[SentMessage] = deque(maxlen=RING)
        self._of_all: set[Subscription] = set()
        self._of_one: defaultdict[UUID, set[Subscription]] = defaultdict(set)
        self._due = asyncio.Event()
        self._announced = 0  # the greatest `seq` on the stream of messages
        self._late_s = _LATE_S
        self._replays = asyncio.Semaphore(_REPLAYS)

    @contextmanager
    def subscribed(self, upload_id: UUID | None = None) -> Iterator[Subscription]:
        """News from now on: of one upload, or of all."""
        subscription = Subscription()
        group = self._of_all if upload_id is None else self._of_one[upload_id]
        group.add(subscription)
        try:
            yield subscription
        finally:
            group.discard(subscription)
            if upload_id is not None and not group:
                self._of_one.pop(upload_id, None)

    def wake_all(self) -> None:
        """Wake everybody who waits."""
        for subscription in (*self._of_all, *(one for group in self._of_one.values() for one in group)):
            subscription.wake()

    def _turn(self) -> None:
        self.turns += 1
        self.turned_at = time.monotonic()
        self.wake_all()

    def after(self, seq: int) -> Sequence[SentMessage] | None:
        """The messages after that one, oldest first; None where the ring does not go back so far."""
        if self.last is None or seq < self._kept_after:
            return None
        newer = list(takewhile(lambda message: message.seq > seq, reversed(self._ring)))
        newer.reverse()
        return newer

    async def replay(self, seq: int, upload_id: UUID | None) -> Sequence[SentMessage]:
        """The next messages after that one as the outbox has them, of one upload or of all.

        Raises: CatalogUnavailable.
        """
        async with self._replays:
            found = await self._reader().messages(seq, _REPLAY_PAGE, upload_id)
        return [SentMessage.of(message, self._link) for message in found]

    async def follow(self) -> None:
        """Follow the outbox until cancelled, through every outage of the catalog and of Redis."""
        while True:
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._await_arrivals(), name="await-arrivals")
                    both.create_task(self._read_on(), name="read-outbox")
            except Exception:
                log.exception("tail_crashed")  # a bug, which need not silence every stream for ever
                await asyncio.sleep(POLL_S)

    async def _read_on(self) -> None:
        outage = OutageLog()
        while True:
            self._due.clear()
            try:
                is_full = await self._read_page()
                if outage.over():
                    self._turn()
            except StorageError as error:
                if outage.met(error):
                    self._turn()
                await asyncio.sleep(POLL_S)
                continue
            if is_full:
                continue
            await asyncio.sleep(TOGETHER_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._due.wait()

    def _pause_s(self) -> float:
        """How long to wait for an arrival: not long where a replica lags behind what was announced."""
        if self.last is None or self._announced <= self.last:
            return POLL_S
        self._late_s = min(2 * self._late_s, POLL_S)
        return self._late_s

    async def _read_page(self) -> bool:
        """Read what is new; whether there may be more."""
        if self.last is None:
            self.last = self._kept_after = await self._reader().newest_seq()
            self.wake_all()  # who began to wait before may have missed something
            return False
        messages = await self._reader().messages(self.last, _PAGE)
        for message in messages:
            self._keep(SentMessage.of(message, self._link))
        return len(messages) == _PAGE

    def _keep(self, message: SentMessage) -> None:
        if len(self._ring) == RING:
            self._kept_after = self._ring[0].seq
        self._ring.append(message)
        self.last = message.seq
        groups = [self._of_all]
        if message.id is not None and message.id in self._of_one:
            groups.append(self._of_one[message.id])
        for group in groups:
            for subscription in group:
                subscription.wake()

    async def _await_arrivals(self) -> None:
        """Have the outbox read as soon as the stream of messages has a new one, whatever it is."""
        at, away_since = "", None
        while True:
            try:
                found = await self._arrivals.after(at, _BLOCK_MS) if at else ()
                if not found:  # as ever, or because the stream is another's, whose IDs begin anew
                    newest = await self._arrivals.last_id()
                    is_new, at = newest != at, newest
                else:
                    is_new, at = True, found[-1][0]
                    self._announced = max(self._announced, *(_seq(message) for _, message in found))
                    self._late_s = _LATE_S
            except QueueUnavailable as error:
                if away_since is None:
                    away_since = time.monotonic()
                    log.warning("messages_not_announced", reason=str(error), read_every_s=POLL_S)
                    self._turn()
                await asyncio.sleep(POLL_S)
                continue
            if away_since is not None:
                log.info("messages_announced", away_s=round(time.monotonic() - away_since, 1))
                away_since, self.redis_back_at = None, time.monotonic()
                self._turn()
            if is_new:
                self._due.set()
                await asyncio.sleep(TOGETHER_S)


def _seq(message: dict[str, object]) -> int:
    seq = message.get("seq")
    return seq if type(seq) is int else 0
