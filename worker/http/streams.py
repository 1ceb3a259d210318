"""Streams of messages: how many there are, why each ends, and how fast its client takes what it is sent."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any, Protocol

import structlog

from storage.errors import StorageError
from worker.http.access import Caller
from worker.http.connections import bound, transport_of
from worker.http.face import Face
from worker.http.problems import Problem
from worker.http.tail import POLL_S, SentMessage
from worker.http.wanted import Gap, MessageFilter, Place, Start, gap_before

log = structlog.get_logger(__name__)

PING_S = 15.0
SLOW_S = 5.0  # for which a client may take nothing of what it was sent
KERNEL_BYTES = 64 * 1024  # that the system keeps for a client, which it counts twice
LOST_S = 30.0  # for which a client may acknowledge nothing
_GOODBYE_S = 0.5


class End(Enum):
    """Why a stream has ended."""

    GONE = "gone"
    SLOW = "slow"
    STOPPING = "stopping"
    NO_RIGHT = "no right"


class Outlet(Protocol):
    """One client, and how it is spoken to."""

    async def send(self, messages: Sequence[SentMessage]) -> None:
        """Send these messages at once."""
        ...

    async def send_gap(self, gap: Gap) -> None:
        """Tell what was missed."""
        ...

    async def send_turn(self) -> None:
        """Tell, where it helps, that the catalog or Redis has gone or has come back."""
        ...

    async def ping(self) -> None:
        """Show that the stream lives."""
        ...


class Streams:
    """How many streams the process keeps open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.open = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """One more stream. Raises: Problem (busy)."""
        if self.open >= self._most:
            raise Problem("busy", f"This server keeps no more than {self._most} streams open.")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


class Stream:
    """One client's stream, until it or the server ends it."""

    def __init__(
        self,
        face: Face,
        wanted: MessageFilter,
        outlet: Outlet,
        recheck: Callable[[], Awaitable[object]],
    ) -> None:
        """`recheck` raises a Problem once the caller has no right any more."""
        self._face = face
        self._wanted = wanted
        self._outlet = outlet
        self._recheck = recheck
        self._is_gone = False

    async def run(self, start: Start, gone: Awaitable[object]) -> End:
        """Send what comes after that start, and what comes later, until `gone` is done or the stream ends."""
        with self._face.tail.subscribed(self._wanted.upload_id) as subscription:

            async def watch() -> None:
                await gone
                self._is_gone = True
                subscription.wake()

            watching = asyncio.create_task(watch())
            try:
                return await self._run(start, subscription.news)
            except SlowClientError:
                return End.SLOW
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await watching

    async def _run(self, start: Start, news: Callable[[float], Awaitable[bool]]) -> End:
        place: Place | None = None
        ping_at, turns = time.monotonic() + PING_S, self._face.tail.turns
        while (end := self._end()) is None:
            if turns != self._face.tail.turns:
                turns = self._face.tail.turns
                await self._outlet.send_turn()
            within_s = ping_at - time.monotonic()
            if within_s <= 0:
                if not await self._is_allowed():
                    return End.NO_RIGHT
                await self._outlet.ping()
                ping_at = time.monotonic() + PING_S
                continue
            try:
                place = place or await self._begin(start)
                messages = await place.next()
            except (StorageError, Problem):  # the tail has logged it
                await news(min(within_s, POLL_S))
                continue
            if messages:
                await self._outlet.send(messages)
            elif messages is None:
                await news(within_s)
        return end

    async def _begin(self, start: Start) -> Place:
        gap = await gap_before(self._face, start)
        if gap is not None:
            await self._outlet.send_gap(gap)
        return Place(self._face, self._wanted, start.seq if gap is None else gap.end)

    def _end(self) -> End | None:
        if self._is_gone:
            return End.GONE
        return End.STOPPING if self._face.stopping.is_set() else None

    async def _is_allowed(self) -> bool:
        try:
            await self._recheck()
        except Problem as problem:
            return problem.code not in ("unauthorized", "forbidden")
        except StorageError:
            pass
        return True


class SlowClientError(Exception):
    """The client took nothing for so long that it was cut."""


class PacedWriter:
    """Writes to a client no faster than it takes, and cuts it where it takes nothing."""

    def __init__(self, face: Face, scope: MutableMapping[str, Any], caller: Caller) -> None:
        self._stopping = face.stopping
        self._transport = transport_of(scope)
        if self._transport is not None:
            bound(self._transport, KERNEL_BYTES, LOST_S)
        self._caller = caller

    async def write(self, writing: Awaitable[None]) -> None:
        """Await what writes to the client. Raises: SlowClientError, having cut it."""
        if self._transport is None or not self._transport.get_write_buffer_size():
            await writing  # at once
            return
        task, stop = asyncio.ensure_future(writing), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((task, stop), timeout=SLOW_S, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return
            if not self._stopping.is_set():
                log.warning(
                    "stream_cut", key=self._caller.name, unsent=self._transport.get_write_buffer_size()
                )
            self._transport.abort()
            raise SlowClientError
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def finish(self, goodbye: Awaitable[None]) -> None:
        """Await the last words, once all others were taken; who does not take them quickly is cut."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await goodbye
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()
