"""The relay: entries of apps' own streams go to the stream of all workers, and say where they were."""

import asyncio
import itertools
from contextlib import suppress

import structlog

from pipelines.backoff import Backoff
from worker.queue import Queue, QueueUnavailable

log = structlog.get_logger(__name__)

DEEP = 500  # entries in the stream of all workers, from which on nothing is moved there
_BLOCK_MS = 1000
_PAUSE_S = 0.25  # while that stream is deep


class Relay:
    """Moves what apps write on streams of their own, while this worker is the one that does."""

    def __init__(self, queue: Queue, *, batch_size: int, lease_s: float, stopping: asyncio.Event) -> None:
        self._queue = queue
        self._apps = queue.apps
        self._batch_size = batch_size
        self._lease_ms = int(lease_s * 1000)
        self._stopping = stopping

    async def run(self) -> None:
        """Move entries until the worker stops; wait while Redis is unavailable."""
        backoff = Backoff(first_s=0.1, longest_s=5)
        while self._apps.domains.all and not self._stopping.is_set():
            try:
                if not await self._apps.lead(self._lease_ms):
                    await self._pause(self._lease_ms / 3000)
                elif await self._queue.stream.depth() >= DEEP:
                    await self._pause(_PAUSE_S)
                elif not await self.step():
                    await self._apps.wait(min(_BLOCK_MS, self._lease_ms // 3))
            except QueueUnavailable as error:
                if backoff.is_reset:
                    log.warning("relay_paused", reason=str(error))
                await self._pause(backoff.next_s())
            else:
                backoff.reset()
        with suppress(QueueUnavailable):
            await self.close()

    async def close(self) -> None:
        """Let another worker go on at once. Raises: QueueUnavailable."""
        if self._apps.domains.all:
            await self._apps.end()

    async def step(self) -> int:
        """Move one batch of each app; returns how many entries. Raises: QueueUnavailable."""
        moved = 0
        await self._queue.ownership.check(lately=True)
        await self._queue.stream.check_room()
        for stream in self._apps.domains.streams:
            entries = await self._apps.read(stream, self._batch_size)
            if entries and await self._apps.move(stream, entries, self._lease_ms):
                moved += len(entries)
        return moved

    async def drain(self) -> None:
        """Move everything there is, by this worker or by the one that has the lease.

        Raises: QueueUnavailable.
        """
        for _ in itertools.takewhile(lambda _: not self._stopping.is_set(), itertools.count()):
            if not self._apps.domains.all or not await self._apps.depth():
                break
            if not await self._apps.lead(self._lease_ms) or not await self.step():
                await self._pause(_PAUSE_S)
        await self.close()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
