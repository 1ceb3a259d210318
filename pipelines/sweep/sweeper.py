"""Who sweeps: what sweeping needs, the right to do it, and the pause between two steps."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from storage.blobs import Blobs
from storage.catalog.sweeps import SWEEP, Sweeps
from storage.errors import StorageError

_LEASE_S = 60.0


class SweepRefused(Exception):
    """The sweep does not go on; nothing was touched. The message says why, with the numbers."""


class SweepBusy(SweepRefused):
    """Another sweep is at work."""


class SweepPaused(Exception):
    """The sweep was asked to stop between two steps; the next one goes on from there."""


Requeue = Callable[[Sequence[UUID]], Awaitable[int]]
"""Queues uploads whose files are missing; gives how many really were."""


async def _nothing() -> None:
    pass


async def _uncounted() -> int | None:
    return None


@dataclass(frozen=True)
class Sweeper:
    """What sweeping needs, and the rules it follows."""

    blobs: Blobs
    sweeps: Sweeps
    holder: str
    grace_s: float
    retention_s: float
    requeue: Requeue
    prove: Callable[[], Awaitable[None]] = _nothing
    """Raises a StorageError when root or schema are not this catalog's."""
    is_dead: Callable[[str], bool] = lambda _holder: False
    """Whether a holder of the right to sweep has surely ended."""
    prove_totals: Callable[[], Awaitable[int | None]] = _uncounted
    """Counts all rows, sets the catalog's totals right, and gives how many were wrong; None: it did not."""
    stopping: Callable[[], bool] = lambda: False
    lease: str = SWEEP

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """The right to sweep, while the body runs, however long its steps are.

        Raises: SweepBusy while another has it, StorageError.
        """
        await self.prove()
        await self._hold()
        ended = asyncio.Event()
        holding = asyncio.create_task(self._hold_until(ended))
        try:
            yield
        finally:
            ended.set()
            await holding
            with suppress(StorageError):  # it ends by itself
                await self.sweeps.end_lease(self.holder, name=self.lease)

    async def next_step(self) -> None:
        """Between two steps. Raises: SweepPaused when it is to stop, SweepBusy, StorageError."""
        if self.stopping():
            raise SweepPaused
        await self._hold()

    async def _hold_until(self, ended: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEASE_S / 4):
                    await ended.wait()
            if ended.is_set():  # a right that has run out meanwhile is not taken again, to do nothing with it
                return
            with suppress(StorageError, SweepBusy):  # the next step tells it
                await self._hold()

    async def _hold(self) -> None:
        if not await self.sweeps.lease(self.holder, _LEASE_S, is_dead=self.is_dead, name=self.lease):
            raise SweepBusy("Another sweep is at work.")
