"""The dispatcher: it puts parked uploads on jobs, in fair turns, as soon as there are places for them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from pipelines.backoff import Backoff
from storage.catalog.parking import OWNERS, Parking
from storage.errors import CatalogUnavailable
from worker.places import JobPlaces
from worker.queue import Queue, QueueUnavailable

log = structlog.get_logger(__name__)

_LOOKS_AFTER_S = 1.0  # for what other workers have parked


class Dispatcher:
    """Puts parked uploads on jobs of this worker; `used_s` tells how much an owner has used lately."""

    def __init__(
        self,
        queue: Queue,
        parking: Parking,
        places: JobPlaces,
        used_s: Callable[[str], float],
        *,
        is_paused: Callable[[], bool],
        stopping: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._parking = parking
        self._places = places
        self._used_s = used_s
        self._is_paused = is_paused
        self._stopping = stopping
        self._after: str | None = None  # the last owner that was told
        self._looked_at = self._compared_at = float("-inf")

    async def run(self) -> None:
        """Dispatch until the worker stops; wait while Redis or the catalog is unavailable."""
        backoff = Backoff(first_s=0.1, longest_s=5)
        while not self._stopping.is_set():
            self._places.changed.clear()
            try:
                await self.fill()
            except (QueueUnavailable, CatalogUnavailable):  # the intake tells of it
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOKS_AFTER_S):
                    await self._places.changed.wait()

    async def fill(self) -> None:
        """Fill the places that are free.

        Raises: QueueUnavailable, CatalogUnavailable; what is on a job then is stalled, and requeued later.
        """
        await self._compare()
        while not self._stopping.is_set() and not self._is_paused():
            if looks := time.monotonic() - self._looked_at >= _LOOKS_AFTER_S:
                await self._look()
            wanted = self._places.wanted(sorted(self._places.parked), self._used_s)
            if not wanted:
                return
            if not await self._dispatch(wanted):
                if looks:  # another worker is taking them
                    return
                self._looked_at = float("-inf")

    async def dispatch_all(self) -> None:
        """Put what is parked now on jobs here, whoever's it is: a burst does all there is.

        What another worker parks meanwhile is that worker's, or a burst beside a busy one would not end.

        Raises: QueueUnavailable, CatalogUnavailable.
        """
        after = None
        while found := await self._parking.owners(after):
            for owner in found:
                await self._dispatch_all_of(owner)
                if self._stopping.is_set():
                    return
            after = found[-1]

    async def _dispatch_all_of(self, owner: str) -> None:
        left = await self._parking.count(owner)
        while left > 0 and not self._stopping.is_set():
            most = min(left, self._places.uploads_per_job)
            if not (dispatched := await self._dispatch({owner: most})):
                return  # another worker has taken them
            left -= dispatched

    async def _look(self) -> None:
        """Learn of whom uploads are parked; where that are many, of others each time."""
        self._looked_at = time.monotonic()
        before = set(self._places.parked)
        found = await self._parking.owners(self._after)
        self._after = found[-1] if len(found) == OWNERS else None
        self._places.parked = {*found, *(self._places.parked - before)}  # some may have come meanwhile

    async def _dispatch(self, wanted: Mapping[str, int]) -> int:
        """Put up to so many uploads of each owner on jobs; returns how many of them all."""
        jobs = await self._parking.take(wanted, self._places.uploads_per_job)
        for job_id, owners in jobs.items():
            self._places.begin(job_id, owners)
        await self._queue.jobs.enqueue({job_id: list(owners) for job_id, owners in jobs.items()}, here=True)
        return sum(map(len, jobs.values()))

    async def _compare(self) -> None:
        """Now and then compare the jobs in hand with those that are in the queue."""
        if time.monotonic() - self._compared_at >= _LOOKS_AFTER_S:
            self._compared_at = time.monotonic()
            self._places.compare(await self._queue.jobs.due_here())
