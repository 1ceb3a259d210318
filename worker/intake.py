"""From event to job: entries of the stream become rows, then jobs, and are acknowledged last."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from pipelines.backoff import Backoff
from pipelines.metrics import NO_METRICS, Metrics
from storage.catalog.epochs import Epochs
from storage.catalog.intake import Event, EventStore
from storage.catalog.records import About, DeadLetter, Doubt, StreamId, Taken, UploadRequested
from storage.errors import CatalogDamaged, CatalogUnavailable
from worker.events import InvalidEvent, parse_event, parse_stream_id, read_about
from worker.publisher import OutboxPublisher
from worker.queue import NoGroup, Queue, QueueUnavailable, StreamEntry

log = structlog.get_logger(__name__)

MAX_DEAD_LETTER_BYTES = 128 * 1024  # of a bad entry that are kept; the largest good event has half of it

_BLOCK_MS = 1000
_PAUSE_S = 0.25  # while there is enough in hand
_A_YEAR_MS = 365 * 24 * 3600 * 1000  # longer ago than this an ID is no time


_Put = Callable[[Sequence[tuple[Event, DeadLetter]], Sequence[DeadLetter]], Awaitable[Taken | Doubt]]


class Intake:
    """Takes events from the stream in batches, whatever is there now."""

    def __init__(
        self,
        queue: Queue,
        register: EventStore,
        epochs: Epochs,
        publisher: OutboxPublisher,
        *,
        recipes: frozenset[str],
        batch_size: int,
        backlog: int,
        lease_s: float,
        stopping: asyncio.Event,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._queue = queue
        self._metrics = metrics
        self._register = register
        self._epochs = epochs
        self._publisher = publisher
        self._recipes = recipes
        self._batch_size = batch_size
        self._backlog = backlog
        self._lease_s = lease_s
        self._stopping = stopping
        self._has_pending = False
        self._reads_new = False
        self._looked_at = float("-inf")
        self._unrecorded: set[str] = set()  # IDs of entries that the catalog could not take
        self._recorded: set[str] = set()  # of those that it took and Redis did not let go of yet
        self._pending_since: dict[tuple[str, str, int], float] = {}
        self._epoch: int | None = None  # of the stream, as known when entries are read

    async def join(self) -> None:
        """Make the stream and its group where they are missing.

        Raises: QueueUnavailable, CatalogUnavailable.
        """
        self._epoch = (await self._epochs.current()).number
        if not await self._queue.stream.has_group():
            await self._begin_anew(self._epoch)

    async def run(self) -> None:
        """Take events until the worker stops; wait while Redis or the catalog is unavailable."""
        backoff = Backoff(first_s=0.1, longest_s=5)
        while not self._stopping.is_set():
            try:
                if await self._queue.jobs.untaken() >= self._backlog:
                    await asyncio.sleep(_PAUSE_S)
                    continue
                await self.step(_BLOCK_MS)
            except (QueueUnavailable, CatalogUnavailable) as error:
                if backoff.is_reset:
                    log.warning("intake_paused", reason=str(error))
                await asyncio.sleep(backoff.next_s())
            else:
                if not backoff.is_reset:
                    log.info("intake_resumed")
                backoff.reset()

    async def drain(self, most: int) -> int:
        """Take the events that are there now, at most about `most`; returns how many."""
        taken = 0
        while taken < most and not self._stopping.is_set():
            try:
                count = await self.step(None)
            except CatalogDamaged:
                break  # health says so, and what can still be done is
            if not count:
                break
            taken += count
        return taken

    async def drain_all(self) -> None:
        """Take everything, also what others have read: either they finish it, or their lease runs out.

        Raises: CatalogDamaged when there is something that cannot be recorded.
        """
        while not self._stopping.is_set() and await self._queue.stream.depth() > len(self._unrecorded):
            try:
                taken = await self.step(None)
            except CatalogDamaged:
                if not self._unrecorded:
                    raise
                taken = 0
            if not taken:
                await asyncio.sleep(_PAUSE_S)
        if self._unrecorded:
            raise CatalogDamaged(f"{len(self._unrecorded)} events could not be recorded")

    async def step(self, block_ms: int | None) -> int:
        """Take one batch: this consumer's own leftovers, a dead one's, or new entries.

        An entry that meets a damaged page of the catalog stays in the stream, unacknowledged, and is tried
        again with each lease; the others go on.

        Raises: CatalogDamaged when new entries came and none of them could be recorded, StreamMismatch when
        the stream is another catalog's by now.
        """
        if self._epoch is None:
            await self.join()
        await self._queue.ownership.check(lately=True)
        try:
            entries = await self._next(block_ms)
        except NoGroup:  # the stream was deleted, or Redis lost its data
            await self._begin_anew(self._epoch or 0)
            return 0
        if entries:
            await self._queue.ownership.check()  # left alone, they are taken over by whose they are
            self._has_pending = True
            # One that was recorded and could not be acknowledged is not answered again each time.
            fresh = [entry for entry in entries if entry.id not in self._recorded]
            taken = await self._take(fresh) if fresh else Taken({}, [])
            self._recorded |= {entry.id for entry in fresh if entry.id not in self._unrecorded}
            self._publisher.publish(taken.messages)
            if taken.outdated:
                log.info("outdated_events_answered", count=len(taken.outdated), first=taken.outdated[0])
            await self._queue.jobs.enqueue(taken.jobs)
            recorded = [entry for entry in entries if entry.id not in self._unrecorded]
            if recorded:
                await self._queue.stream.acknowledge(recorded)
            self._recorded.clear()
            self._has_pending = False
            if not recorded and self._reads_new:
                raise CatalogDamaged(f"none of {len(entries)} events could be recorded")
        return len(entries)

    async def _next(self, block_ms: int | None) -> Sequence[StreamEntry]:
        self._reads_new = False
        if self._has_pending:
            own = await self._queue.stream.read_own(self._batch_size)
            self._has_pending = bool(own)
            if own:
                return own
        if time.monotonic() - self._looked_at > self._lease_s / 3:
            self._looked_at = time.monotonic()
            orphaned = await self._queue.stream.take_over(int(self._lease_s * 1000), self._batch_size)
            orphaned = orphaned or await self._take_over_forgotten()
            if orphaned:
                self._looked_at = float("-inf")  # there may be more
                return orphaned
        self._reads_new = True
        return await self._queue.stream.read(self._batch_size, block_ms)

    async def _take_over_forgotten(self) -> Sequence[StreamEntry]:
        """What others have had for twice the lease; Redis does not say so once its clock was put back."""
        now = time.monotonic()
        pending = await self._queue.stream.pending_elsewhere(self._batch_size)
        self._pending_since = {each: self._pending_since.get(each, now) for each in pending}
        late = [each[0] for each, since in self._pending_since.items() if now - since > 2 * self._lease_s]
        found = [await self._queue.stream.take_over_one(entry_id) for entry_id in late]
        return [entry for entries in found for entry in entries]

    async def _begin_anew(self, epoch: int) -> None:
        """Make the group, and before it a new epoch: nobody can read before both are there."""
        await self._move_to(await self._epochs.begin(epoch))
        await self._queue.stream.make_group()

    async def _move_to(self, epoch: int) -> None:
        if epoch != self._epoch:
            log.warning("stream_began_anew", stream=self._queue.stream.name, epoch=epoch)
            self._recorded.clear()  # the same IDs may be others' now
        self._epoch = epoch

    async def _take(self, entries: Sequence[StreamEntry]) -> Taken:
        """Record `entries`, each as of the epoch in which it was read."""
        epochs = dict.fromkeys((entry.id for entry in entries), self._epoch or 0)
        sure = False
        while True:
            epoch = self._epoch or 0
            events, letters = self._parse(entries, epochs)
            taken = await self._record(events, letters, epoch, sure=sure)
            if isinstance(taken, Taken):
                refused = [*letters, *taken.refused]
                self._log_refused(refused)
                self._metrics.events_taken(len(entries) - len(refused), len(refused))
                return taken
            sure = taken.epoch == epoch and not await self._is_anew(taken.newest)
            if not sure:
                await self._move_to(taken.epoch if taken.epoch != epoch else await self._epochs.begin(epoch))
                # What the stream does not know of was read before it began anew.
                here = await self._queue.stream.pending(entries)
                epochs |= dict.fromkeys(here, self._epoch or 0)

    async def _is_anew(self, newest: StreamId | None) -> bool:
        """Whether the stream is another than the one in which that entry was taken.

        An older state of it, which was restored, is the same: what it numbers from now on is newer than all
        that was taken, and what is older has been taken. Unless a clock has gone back since, that is.
        """
        last = await self._queue.stream.last_id()
        if newest is None or last is None or newest <= parse_stream_id(last, newest.epoch):
            return False
        return not 0 <= await self._queue.server.now_ms() - newest.ms < _A_YEAR_MS

    def _parse(
        self, entries: Sequence[StreamEntry], epochs: Mapping[str, int]
    ) -> tuple[Sequence[tuple[Event, DeadLetter]], Sequence[DeadLetter]]:
        events: list[tuple[Event, DeadLetter]] = []
        letters: list[DeadLetter] = []
        for entry in entries:
            position = parse_stream_id(entry.id, epochs[entry.id])
            try:
                event = parse_event(entry.event, position, self._recipes)
            except InvalidEvent as error:
                letters.append(_letter(entry, position, error.code, str(error), read_about(entry.event)))
            else:
                reason = "the id belongs to another source"
                owned = _letter(entry, position, "invalid_event", reason, _about(event))
                events.append((event, owned))
        return events, letters

    def _log_refused(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            log.warning("event_refused", stream_id=letter.stream_id, code=letter.code, reason=letter.message)

    async def _record(
        self,
        events: Sequence[tuple[Event, DeadLetter]],
        letters: Sequence[DeadLetter],
        epoch: int,
        *,
        sure: bool,
    ) -> Taken | Doubt:
        put = partial(self._register.take, epoch=epoch, sure=sure)
        try:
            taken = await put(events, letters)
        except CatalogDamaged:
            pass  # where one event meets a damaged page, the others need not
        except CatalogUnavailable:
            raise
        except Exception:
            log.exception("intake_batch_failed", events=len(events))
        else:
            if isinstance(taken, Taken):
                self._note_recorded(*(letter for _, letter in events), *letters)
            return taken
        return await self._record_singly(events, letters, put)

    async def _record_singly(
        self, events: Sequence[tuple[Event, DeadLetter]], letters: Sequence[DeadLetter], put: _Put
    ) -> Taken | Doubt:
        """One by one, so that what cannot be recorded harms nobody else."""
        found = [await self._record_one([], letter, put) for letter in letters]
        for event, letter in events:
            try:
                found.append(await self._record_one([(event, letter)], letter, put))
            except CatalogUnavailable:
                raise
            except Exception as error:
                log.exception("event_failed", stream_id=letter.stream_id)
                reason = f"could not be recorded: {error}"[:1000]
                failed = replace(letter, code="internal_error", message=reason)
                found.append(await self._record_one([], failed, put))
        parts = [part for part in found if isinstance(part, Taken)]
        if doubts := [part for part in found if isinstance(part, Doubt)]:
            return doubts[0]  # all of it once more; what has been taken changes nothing then
        return Taken(
            jobs={job_id: ids for part in parts for job_id, ids in part.jobs.items()},
            refused=[letter for part in parts for letter in part.refused],
            messages=[message for part in parts for message in part.messages],
            outdated=[entry for part in parts for entry in part.outdated],
        )

    async def _record_one(
        self, event: Sequence[tuple[Event, DeadLetter]], letter: DeadLetter, put: _Put
    ) -> Taken | Doubt:
        """An event, or without one its letter; one that meets a damaged page is noted as unrecorded."""
        try:
            taken = await put(event, [] if event else [letter])
        except CatalogDamaged as error:
            if letter.stream_id not in self._unrecorded:
                log.error("event_not_recorded", stream_id=letter.stream_id, reason=str(error))  # noqa: TRY400
            self._unrecorded.add(letter.stream_id)
            return Taken({}, [])
        if isinstance(taken, Taken):
            self._note_recorded(letter)
        return taken

    def _note_recorded(self, *letters: DeadLetter) -> None:
        if self._unrecorded:
            self._unrecorded -= {letter.stream_id for letter in letters}


def _letter(
    entry: StreamEntry, position: StreamId, code: str, reason: str, about: About | None
) -> DeadLetter:
    return DeadLetter(
        entry.id, code, reason, entry.raw[:MAX_DEAD_LETTER_BYTES], about=about, position=position
    )


def _about(event: Event) -> About:
    if isinstance(event, UploadRequested):
        return About(event.id, event.source, event.metadata)
    return About(event.id, None)
