"""Intake: entries of the stream are read, recorded, put on jobs, and acknowledged last."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from pipelines.backoff import Backoff
from pipelines.metrics import NO_METRICS, Metrics
from storage.errors import CatalogDamaged, CatalogUnavailable
from worker.leases import remove_corrupt_jobs, take_over_jobs
from worker.places import PLACES
from worker.publisher import OutboxPublisher
from worker.questions import QuestionDesk
from worker.queue import NoGroup, Queue, QueueUnavailable, StreamEntry
from worker.queue.stream import Pending
from worker.recorder import Recorder

log = structlog.get_logger(__name__)

_BLOCK_MS = 1000
_PAUSE_S = 0.25  # while there is enough in hand


class Intake:
    """Takes events from the stream in batches, whatever is there now."""

    def __init__(
        self,
        queue: Queue,
        recorder: Recorder,
        publisher: OutboxPublisher,
        desk: QuestionDesk,
        *,
        batch_size: int,
        backlog: int,
        lease_s: float,
        stopping: asyncio.Event,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._queue = queue
        self._recorder = recorder
        self._publisher = publisher
        self._desk = desk
        self._batch_size = batch_size
        self._backlog = backlog
        self._lease_s = lease_s
        self._stopping = stopping
        self._metrics = metrics
        self._has_pending = False
        self._reads_new = False
        self._has_survived = False  # a batch of new entries
        self._looked_at = self._took_over_at = float("-inf")
        self._pending_since: dict[Pending, float] = {}

    async def join(self) -> None:
        """Make the stream and its group where they are missing.

        Raises: QueueUnavailable, CatalogUnavailable.
        """
        await self._recorder.read_epoch()
        if not await self._queue.stream.has_group():
            await self._recorder.begin_anew()

    async def run(self) -> None:
        """Take events until the worker stops; wait while Redis or the catalog is unavailable."""
        backoff = Backoff(first_s=0.1, longest_s=5)
        while not self._stopping.is_set():
            try:
                await self._take_over_jobs()
                if await self._has_backlog():
                    await asyncio.sleep(_PAUSE_S)
                    continue
                if not await self.step(_BLOCK_MS):
                    await self._queue.jobs.help_out(PLACES)
            except (QueueUnavailable, CatalogUnavailable) as error:
                if backoff.is_reset:
                    log.warning("intake_paused", reason=str(error))
                await asyncio.sleep(backoff.next_s())
            else:
                if not backoff.is_reset:
                    log.info("intake_resumed")
                backoff.reset()

    async def drain(self, most: int) -> int:
        """Take the events there are, at most about `most`, until enough jobs wait; returns how many."""
        taken = 0
        while taken < most and not self._stopping.is_set() and not await self._has_backlog():
            try:
                count = await self.step(None)
            except CatalogDamaged:
                break  # health says so, and what can still be done is
            if not count:
                break
            taken += count
        return taken

    async def drain_all(self) -> None:
        """Take all there is now, also what others have read: either they finish it, or their lease runs out.

        Raises: CatalogDamaged when there is something that cannot be recorded.
        """
        unrecorded = self._recorder.unrecorded
        last_id = await self._queue.stream.last_id()
        while (
            not self._stopping.is_set()
            and await self._queue.stream.depth() > len(unrecorded)
            and await self._queue.stream.has_until(last_id)
        ):
            try:
                taken = await self.step(None)
            except CatalogDamaged:
                if not unrecorded:
                    raise
                taken = 0
            if not taken:
                await asyncio.sleep(_PAUSE_S)
        if unrecorded:
            raise CatalogDamaged(f"{len(unrecorded)} events could not be recorded")

    async def _has_backlog(self) -> bool:
        return await self._queue.jobs.untaken() >= self._backlog

    async def step(self, block_ms: int | None) -> int:
        """Take one batch: this consumer's own leftovers, a dead one's, or new entries.

        An entry that meets a damaged page of the catalog stays in the stream, unacknowledged, and is tried
        again with each lease, as is a question whose answer Redis refuses; the others go on.

        Raises: CatalogDamaged when new entries came and none of them could be recorded, StreamMismatch when
        the stream is another catalog's by now.
        """
        if self._recorder.epoch is None:
            await self.join()
        await self._queue.ownership.check(lately=True)
        await self._take_over_jobs()
        try:
            entries = await self._next(block_ms)
        except NoGroup:  # the stream was deleted, or Redis lost its data
            await self._recorder.begin_anew()
            return 0
        if entries:
            await self._queue.ownership.check()  # left alone, they are taken over by whose they are
            self._has_pending = True
            taken = await self._recorder.record(entries)
            self._publisher.publish(taken.messages)
            if taken.outdated:
                log.info("outdated_events_answered", count=len(taken.outdated), first=taken.outdated[0])
            await self._queue.jobs.enqueue(taken.jobs)
            unanswered: QueueUnavailable | None = None
            try:
                left = await self._desk.answer(taken.asked)
            except QueueUnavailable as error:  # what came with the questions does not wait for that
                left, unanswered = {one.stream_id for one in taken.asked}, error
            self._recorder.note_answered(taken.asked, left)
            recorded = [entry for entry in entries if entry.id not in self._recorder.unrecorded]
            if recorded:
                await self._queue.stream.acknowledge(recorded)
            self._recorder.note_acknowledged()
            self._has_pending = self._queue.stream.left_unread
            self._has_survived |= self._reads_new
            if len(recorded) < len(entries):  # it was not for want of a reader
                await self._queue.stream.note_alive(self._batch_size)
            if unanswered is not None:
                raise unanswered
            if not recorded and self._reads_new:
                raise CatalogDamaged(f"none of {len(entries)} events could be recorded")
        return len(entries)

    async def _next(self, block_ms: int | None) -> Sequence[StreamEntry]:
        self._reads_new = False
        if self._has_pending:
            if not self._queue.stream.left_unread:
                await self._queue.stream.note_alive(self._batch_size)
            own = await self._queue.stream.read_own(self._batch_size)
            self._has_pending = bool(own)
            if own:
                return own
        if time.monotonic() - self._looked_at > self._lease_s / 3:
            self._looked_at = time.monotonic()
            orphaned = await self._queue.stream.take_over(int(self._lease_s * 1000), self._batch_size)
            orphaned = orphaned or await self._take_over_forgotten()
            if orphaned:
                self._metrics.recovered("taken_over", len(orphaned))
                self._looked_at = float("-inf")  # there may be more
                return orphaned
        self._reads_new = True
        count = 1 if await self._may_follow_a_death() else self._batch_size
        return await self._queue.stream.read(count, block_ms)

    async def _may_follow_a_death(self) -> bool:
        """Whether this worker has read nothing new yet, and others have what they never acknowledged.

        Whatever ended them may be in the stream once more, and takes nothing else along then.
        """
        return not self._has_survived and bool(await self._queue.stream.pending_elsewhere(1))

    async def _take_over_jobs(self) -> None:
        """Take over the jobs of workers that are gone, now and then; also while the intake is paused."""
        if time.monotonic() - self._took_over_at > self._lease_s / 3:
            self._took_over_at = time.monotonic()
            await take_over_jobs(self._queue)
            await remove_corrupt_jobs(self._queue, head=True)

    async def _take_over_forgotten(self) -> Sequence[StreamEntry]:
        """What others have had for twice the lease; Redis does not say so once its clock was put back."""
        now = time.monotonic()
        pending = await self._queue.stream.pending_elsewhere(self._batch_size)
        self._pending_since = {each: self._pending_since.get(each, now) for each in pending}
        late = [each for each, since in self._pending_since.items() if now - since > 2 * self._lease_s]
        return await self._queue.stream.take_over_some(late)
