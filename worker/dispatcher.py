"""The dispatcher: it puts parked uploads on jobs, in fair turns, as soon as there are places for them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from pipelines.backoff import Backoff
from storage.catalog.parking import OWNERS, Parking
from storage.errors import CatalogDamaged, CatalogUnavailable
from worker.places import JobPlaces, TurnAt
from worker.queue import Queue, QueueUnavailable

log = structlog.get_logger(__name__)

_LOOKS_AFTER_S = 1.0  # for what others have parked
_LOOKS_SOON_S = 0.1  # once they park more and more, as a back-fill does that waits for room
_IS_LATELY_S = 3.0
_TELLS_AFTER_S = 60.0  # again of the same damage


class Dispatcher:
    """Puts parked uploads on jobs of this worker; `turn_at` tells whose turn is next."""

    def __init__(
        self,
        queue: Queue,
        parking: Parking,
        places: JobPlaces,
        turn_at: TurnAt,
        *,
        is_paused: Callable[[], bool],
        stopping: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._parking = parking
        self._places = places
        self._turn_at = turn_at
        self._is_paused = is_paused
        self._stopping = stopping
        self._after: str | None = None  # the last owner that was told
        self._found_less = False  # than was wanted, since it looked
        self._looked_at = self._compared_at = self._dispatched_at = self._told_at = float("-inf")

    async def run(self) -> None:
        """Dispatch until the worker stops; wait while Redis or the catalog is unavailable."""
        backoff = Backoff(first_s=0.1, longest_s=5)
        while not self._stopping.is_set():
            self._places.changed.clear()
            try:
                await self.fill()
            except (QueueUnavailable, CatalogUnavailable) as error:  # the intake tells of an outage
                if isinstance(error, CatalogDamaged):
                    self._tell(error)
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._looks_after_s()):
                    await self._places.changed.wait()

    async def fill(self) -> None:
        """Fill the places that are free.

        Raises: QueueUnavailable, CatalogUnavailable; what is on a job then is stalled, and requeued later.
        """
        await self._compare()
        looked = False
        while not self._stopping.is_set() and not self._is_paused():
            if time.monotonic() - self._looked_at >= self._looks_after_s():
                looked = True
                await self._look()
            if wanted := self._places.wanted(self._turn_at):
                await self._dispatch(wanted)
            elif looked or self._places.parked or not self._found_less:
                return
            else:  # all that was known is taken, and there may be more
                self._looked_at = float("-inf")

    def _looks_after_s(self) -> float:
        if self._places.parked or time.monotonic() - self._dispatched_at >= _IS_LATELY_S:
            return _LOOKS_AFTER_S
        # The longer there was nothing, the later.
        return min(_LOOKS_AFTER_S, max(_LOOKS_SOON_S, self._looked_at - self._dispatched_at))

    async def attend(self) -> None:
        """Look at what this worker has just parked: at once in a burst, which ends where no job is left.

        Raises: QueueUnavailable, CatalogUnavailable.
        """
        if self._places.admits_all:
            await self.dispatch_all()
        else:
            self._looked_at = float("-inf")
            self._places.changed.set()

    async def dispatch_all(self) -> None:
        """Put what is parked now on jobs here, whoever's it is: a burst does all there is.

        What another worker parks meanwhile is that worker's, or a burst beside a busy one would not end. What
        a damaged page of the catalog keeps is left.

        Raises: QueueUnavailable, CatalogUnavailable.
        """
        try:
            await self._dispatch_all()
        except CatalogDamaged as error:
            self._tell(error)

    async def _dispatch_all(self) -> None:
        after = None
        while found := await self._parking.owners(after):
            for owner in found:
                if not self._places.is_aside(owner):
                    await self._dispatch_all_of(owner)
                if self._stopping.is_set():
                    return
            after = max(found)

    async def _dispatch_all_of(self, owner: str) -> None:
        left = await self._parking.count(owner)
        while left > 0 and not self._stopping.is_set():
            most = min(left, self._places.uploads_per_job)
            if not (dispatched := await self._dispatch({owner: most})):
                return  # another worker has taken them
            left -= dispatched

    async def _look(self) -> None:
        """Learn whose uploads are parked; of very many owners of others each time, and of the oldest."""
        self._looked_at = time.monotonic()
        self._found_less = False
        known, is_first = list(self._places.parked), self._after is None
        try:
            waits = await self._parking.waits(self._after)
        except CatalogDamaged as error:  # of the index by owner: there is one by age
            self._tell(error)
            self._places.find(await self._parking.longest(), None, self._turn_at)
            return
        self._after = max(waits) if len(waits) == OWNERS else None
        if is_first and self._after is None:
            self._places.find(waits, known, self._turn_at)
        else:
            self._places.find({**waits, **await self._parking.longest()}, None, self._turn_at)

    async def _dispatch(self, wanted: Mapping[str, int]) -> int:
        """Put up to so many uploads of each owner on jobs; returns how many of them all.

        An owner of whom a damaged page of the catalog keeps them is set aside, and the others are not.
        """
        try:
            jobs = await self._parking.take(wanted, self._places.uploads_per_job)
        except CatalogDamaged as error:
            if len(wanted) > 1:
                return sum([await self._dispatch({owner: most}) for owner, most in wanted.items()])
            for owner in wanted:
                self._places.set_aside(owner)
                log.error("uploads_not_dispatched", owner=owner, reason=str(error))  # noqa: TRY400 (it says all)
            return 0
        for job_id, owners in jobs.items():
            self._places.begin(job_id, owners)
        if jobs:
            self._dispatched_at = time.monotonic()
        taken = Counter(owner for owners in jobs.values() for owner in owners.values())
        if less := [owner for owner, most in wanted.items() if taken[owner] < most]:
            self._found_less = True
            self._places.empty(less)
        await self._queue.jobs.enqueue({job_id: list(owners) for job_id, owners in jobs.items()})
        return sum(map(len, jobs.values()))

    def _tell(self, error: CatalogDamaged) -> None:
        if time.monotonic() - self._told_at >= _TELLS_AFTER_S:
            self._told_at = time.monotonic()
            log.error("parked_uploads_not_read", reason=str(error))

    async def _compare(self) -> None:
        """Now and then compare the jobs in hand with those that are in the queue."""
        if time.monotonic() - self._compared_at >= _LOOKS_AFTER_S:
            self._compared_at = time.monotonic()
            self._places.compare(await self._queue.jobs.due_here())
