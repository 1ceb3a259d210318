"""The places for jobs in a worker: which owners may have more of their uploads in work or about to be."""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

PLACES = 8  # jobs at once
_OF_AN_OWNER = 4  # with uploads of one owner: whoever else comes finds a place
_KEPT_FREE = 2  # for owners of whom no job has any
_AT_A_TIME = 2
_ASIDE_S = 60.0  # each try reads the damaged page again, and the file may have been put right
_LOST_AFTER_S = 2.0  # a job that was enqueued is in its queue by then
MOST_KNOWN = 1000  # owners with parked uploads: each end of a job asks whose turn it is

TurnAt = Callable[[str, float], float]
"""When it is the turn of an owner that has waited since then: the earliest is next."""


@dataclass
class _Job:
    owners: dict[UUID, str]
    since: float
    runs: bool = False


class JobPlaces:
    """The jobs that this worker has in hand, with at most `uploads_per_job` uploads each."""

    def __init__(self, uploads_per_job: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.uploads_per_job = uploads_per_job
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._others = 0  # jobs in the queue that nobody told of
        self._parked: dict[str, float] = {}  # since when their oldest upload waits
        self._new: set[str] = set()  # owners of whom uploads were parked since `wanted` was asked
        self._served_at: dict[str, float] = {}  # when an owner got its last job here
        self._aside: dict[str, float] = {}  # until when an owner is passed over
        self.admits_all = False
        """Whether nothing is parked, nor remembered of jobs: a burst ends where none is left."""
        self.changed = asyncio.Event()
        """Something was parked, or a place became free for what is."""

    @property
    def taken(self) -> int:
        """How many jobs there are; those that others have put here leave places free for new owners."""
        return len(self._jobs) + min(self._others, PLACES - _KEPT_FREE)

    @property
    def parked(self) -> Collection[str]:
        """The owners of whom uploads are parked, as far as this worker knows."""
        return self._parked.keys()

    @property
    def owners(self) -> Collection[str]:
        """The owners whose uploads wait here, or are in work."""
        return {*self._parked, *self._jobs_of_owners()}

    def admit(self, owners: Sequence[str]) -> Sequence[bool]:
        """Which of the uploads of these owners may get a job now; the others are to be parked."""
        if self.admits_all:
            return [True] * len(owners)
        jobs, admitted = self._jobs_of_owners(), Counter[str]()
        left = {
            owner: self._room_of(owner, jobs) * self.uploads_per_job
            for owner in {*owners} - self._parked.keys()
        }
        answers = []
        for owner in owners:
            room = (PLACES - self.taken) * self.uploads_per_job - admitted.total()
            answers.append(room > 0 and admitted[owner] < left.get(owner, 0))
            admitted[owner] += answers[-1]
        return answers

    def wanted(self, turn_at: TurnAt) -> dict[str, int]:
        """How many parked uploads of which owner go on the next jobs: of those whose turn is next.

        An owner waits until two of its jobs have ended: to dispatch for two costs as much as for one.
        """
        self._new.clear()
        jobs = self._jobs_of_owners()
        most = max(1, min(_AT_A_TIME, PLACES - _KEPT_FREE - self.taken)) * self.uploads_per_job
        eligible = (
            o
            for o in self._parked
            if jobs[o] <= _OF_AN_OWNER - _AT_A_TIME and self._room_of(o, jobs) and not self.is_aside(o)
        )
        chosen = heapq.nsmallest(most, eligible, key=lambda owner: self._turn_at(owner, turn_at))
        share, more = divmod(most, len(chosen) or 1)
        return {owner: share + (at < more) for at, owner in enumerate(chosen)}

    def _turn_at(self, owner: str, turn_at: TurnAt) -> float:
        since = self._parked[owner]
        return turn_at(owner, max(since, self._served_at.get(owner, since)))

    def begin(self, job_id: str, owners: Mapping[UUID, str]) -> None:
        """A job with uploads of these owners is about to be enqueued here."""
        if not self.admits_all:
            now = self._clock()
            self._jobs[job_id] = _Job(dict(owners), now)
            self._served_at.update(dict.fromkeys(owners.values(), now))

    @contextmanager
    def running(self, job_id: str) -> Iterator[dict[UUID, str]]:
        """The job runs; yields whose its uploads are, to be filled in where nobody has said it here."""
        job = self._jobs.setdefault(job_id, _Job({}, self._clock()))
        job.runs = True
        try:
            yield job.owners
            self._jobs.pop(job_id, None)
        finally:
            if self.admits_all:
                self._jobs.pop(job_id, None)
            # One that raised is to run again: its place is its owners' until it is in the queue no more.
            job.runs, job.since = False, self._clock()
            if self._parked:
                self.changed.set()

    def park(self, owners: Collection[str]) -> None:
        """Uploads of these owners were parked."""
        if owners:
            now = self._clock()
            for owner in owners:
                self._parked.setdefault(owner, now)
            self._new.update(owners)
            self.changed.set()

    def find(self, waits_ms: Mapping[str, int], known: Collection[str] | None, turn_at: TurnAt) -> None:
        """The oldest parked uploads of these owners wait for so long.

        `known`: no others have any, of those that were known when this was asked; None: there are more.
        """
        now = self._clock()
        for owner in known or ():
            if owner not in waits_ms:
                self._parked.pop(owner, None)
        self._parked |= {owner: now - wait_ms / 1000 for owner, wait_ms in waits_ms.items()}
        if len(self._parked) > MOST_KNOWN:  # the others are found again, and have waited for longer then
            kept = heapq.nsmallest(MOST_KNOWN, self._parked, key=lambda owner: self._turn_at(owner, turn_at))
            self._parked = {owner: self._parked[owner] for owner in kept}

    def empty(self, owners: Collection[str]) -> None:
        """These owners had no more parked uploads when those that were `wanted` were taken."""
        for owner in {*owners} - self._new:
            self._parked.pop(owner, None)

    def set_aside(self, owner: str) -> None:
        """What is parked of that owner cannot be taken now: it is passed over for a minute."""
        self._aside[owner] = self._clock() + _ASIDE_S

    def is_aside(self, owner: str) -> bool:
        """Whether that owner is passed over now."""
        return self._clock() < self._aside.get(owner, float("-inf"))

    def compare(self, queued: Collection[str]) -> None:
        """Only these jobs are in the queue: others have taken the rest of them, or they were lost."""
        lost_since = self._clock() - _LOST_AFTER_S
        for job_id, job in list(self._jobs.items()):
            if not job.runs and job.since < lost_since and job_id not in queued:
                del self._jobs[job_id]
        self._others = len({*queued} - self._jobs.keys())
        here = self.owners
        self._served_at = {owner: at for owner, at in self._served_at.items() if owner in here}
        self._aside = {owner: until for owner, until in self._aside.items() if self.is_aside(owner)}

    def _jobs_of_owners(self) -> Counter[str]:
        return Counter(owner for job in self._jobs.values() for owner in {*job.owners.values()})

    def _room_of(self, owner: str, jobs: Mapping[str, int]) -> int:
        """For how many more jobs with uploads of that owner there is a place."""
        kept_free = _KEPT_FREE if jobs.get(owner) else 0
        return max(0, min(_OF_AN_OWNER - jobs.get(owner, 0), PLACES - kept_free - self.taken))
