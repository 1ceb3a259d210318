"""Who sweeps: what sweeping needs, the right to do it, and the pause between two steps."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID, uuid4

from pipelines.sweep.findings import Ages
from storage.blobs import Blobs, Inspect, Put
from storage.catalog.sweep_records import SWEEP, SweepRecords
from storage.catalog.sweeps import Sweeps
from storage.errors import StorageError


class SweepRefused(Exception):
    """The sweep does not go on; nothing was touched. The message says why, with the numbers."""


class SweepBusy(SweepRefused):
    """Another sweep is at work."""


class SweepPaused(Exception):
    """The sweep was asked to stop between two steps; the next one goes on from there."""


class PlanBlobs(Inspect, Put, Protocol):
    """What planning needs of a storage: verbs that read, and one to write the plan down."""


class Installation(Protocol):
    """What a sweep asks of the installation that it sweeps."""

    async def check(self) -> None:
        """Raises: StorageError where root or schema are not this catalog's."""

    async def requeue(self, upload_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Queue uploads whose files are missing; returns those that would fail, which are left alone."""

    async def requeue_damaged(self, damaged: Mapping[str, str]) -> int:
        """Queue the uploads of damaged keys (each with the hash of its row); returns how many."""

    async def correct_totals(self) -> int | None:
        """Count all rows and correct the catalog's totals; returns how many were wrong, None if uncounted."""

    def is_stopping(self) -> bool:
        """Whether the sweep is to pause before its next step."""


@dataclass(frozen=True, kw_only=True)
class LeaseHolder:
    """Whoever works under a lease, so that nobody else does the same at the same time."""

    sweeps: SweepRecords
    installation: Installation
    holder: str = field(default_factory=lambda: uuid4().hex)
    lease: str = SWEEP
    lease_s: float = 15.0
    """After how many seconds without renewal another may have the lease."""

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """The right to sweep, while the body runs, however long its steps are.

        Raises: SweepBusy while another has it, StorageError.
        """
        await self.installation.check()
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
        if self.installation.is_stopping():
            raise SweepPaused
        await self.installation.check()
        await self._hold()

    async def _hold_until(self, ended: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.lease_s / 4):
                    await ended.wait()
            if ended.is_set():  # a right that has run out meanwhile is not taken again, to do nothing with it
                return
            with suppress(StorageError, SweepBusy):  # the next step raises it
                await self._hold()

    async def _hold(self) -> None:
        if not await self.sweeps.lease(self.holder, self.lease_s, name=self.lease):
            raise SweepBusy("Another sweep is at work.")


@dataclass(frozen=True, kw_only=True)
class Planner(LeaseHolder):
    """What planning needs: it reads everything, writes a plan, and can destroy nothing."""

    blobs: PlanBlobs
    grace_s: float
    retention_s: float
    now: Callable[[], float]
    """The moment in seconds since 1970, by the catalog's clock: other hosts sweep, too."""

    def ages(self) -> Ages:
        """The moments from which on files and rows are acted upon now."""
        return Ages.at(self.now(), self.grace_s, self.retention_s)


@dataclass(frozen=True, kw_only=True)
class Sweeper(Planner):
    """What sweeping needs: it can apply a plan, too."""

    blobs: Blobs
    sweeps: Sweeps
