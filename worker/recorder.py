"""Recording: entries become rows or dead letters, each of the epoch of the stream in which it was read."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from pipelines.metrics import NO_METRICS, Metrics
from pipelines.traces import NO_TRACES, Traces
from storage.catalog.condition import words
from storage.catalog.epochs import Epochs
from storage.catalog.intake import Event, EventStore
from storage.catalog.records import (
    About,
    DeadLetter,
    PossibleRestart,
    StatusAsked,
    StreamId,
    Taken,
    UploadRequested,
)
from storage.errors import CatalogDamaged, CatalogUnavailable
from worker.domains import with_origin, within
from worker.events import InvalidEvent, is_json, parse_event, parse_stream_id, read_about
from worker.places import JobPlaces
from worker.queue import Queue, StreamEntry
from worker.tracing import naming_trace

log = structlog.get_logger(__name__)

MAX_DEAD_LETTER_BYTES = 128 * 1024  # of a bad entry that is kept whole; the largest good event has half of it
NO_JSON_BYTES = (
    4096  # of one that is no JSON, or larger: it can never become an event, and these show what it is
)
_A_YEAR_MS = 365 * 24 * 3600 * 1000  # longer ago than this an ID is no time

_Read = Sequence[tuple[Event, DeadLetter]]
_Put = Callable[[_Read, Sequence[DeadLetter]], Awaitable[Taken | PossibleRestart]]


class Recorder:
    """Records entries of one stream in the catalog."""

    def __init__(
        self,
        queue: Queue,
        store: EventStore,
        epochs: Epochs,
        recipes: frozenset[str],
        metrics: Metrics = NO_METRICS,
        traces: Traces = NO_TRACES,
        places: JobPlaces | None = None,
    ) -> None:
        self._queue = queue
        self._store = store
        self._epochs = epochs
        self._recipes = recipes
        self._metrics = metrics
        self._traces = traces
        self._places = places
        self._admit = {} if places is None else {"admit": places.admit}
        self._recorded: set[str] = set()  # IDs of entries that Redis has not let go of yet
        self.unrecorded: set[str] = set()
        """The IDs of entries that met a damaged page of the catalog."""
        self.epoch: int | None = None
        """The epoch of the stream, as known when entries are read."""

    async def read_epoch(self) -> None:
        """Learn in which epoch the stream is. Raises: CatalogUnavailable."""
        self.epoch = (await self._epochs.current()).number

    async def begin_anew(self) -> None:
        """Make the group, and before it a new epoch: nobody can read before both are there."""
        self._move_to(await self._epochs.begin(self.epoch or 0))
        await self._queue.stream.make_group()

    def _move_to(self, epoch: int) -> None:
        if epoch != self.epoch:
            log.warning("stream_began_anew", stream=self._queue.stream.name, epoch=epoch)
            self._recorded.clear()  # the same IDs may be others' now
        self.epoch = epoch

    async def record(self, entries: Sequence[StreamEntry]) -> Taken:
        """Record those of `entries` that are not recorded yet; those that cannot be are in `unrecorded` then.

        Raises: CatalogUnavailable, QueueUnavailable.
        """
        # One that was recorded and could not be acknowledged is not answered again each time.
        fresh = [entry for entry in entries if entry.id not in self._recorded]
        taken = await self._take(fresh) if fresh else Taken({}, [])
        unanswered = {one.stream_id for one in taken.asked}
        self._recorded |= {entry.id for entry in fresh} - self.unrecorded - unanswered
        return taken

    def note_answered(self, asked: Sequence[StatusAsked], left: Collection[str]) -> None:
        """Remember which questions were answered, and which of them are `left`: they met a damaged page."""
        ids = {one.stream_id for one in asked}
        self._recorded |= ids.difference(left)
        self.unrecorded -= ids
        self.unrecorded |= set(left)

    def note_acknowledged(self) -> None:
        """Forget which entries were recorded: Redis has let go of all of them."""
        self._recorded.clear()

    async def _take(self, entries: Sequence[StreamEntry]) -> Taken:
        """Record `entries`, each as of the epoch in which it was read."""
        began = time.perf_counter()
        epochs = dict.fromkeys((entry.id for entry in entries), self.epoch or 0)
        same_stream = False
        while True:
            epoch = self.epoch or 0
            events, letters, asked = self._parse(entries, epochs)
            taken: Taken | PossibleRestart = Taken({}, [])
            if events or letters:
                taken = await self._record(events, letters, epoch, same_stream=same_stream)
            if isinstance(taken, Taken):
                refused = [*letters, *taken.refused]
                for letter in refused:
                    reason = letter.message
                    with _naming_trace(letter):
                        log.warning(
                            "event_refused", stream_id=letter.stream_id, code=letter.code, reason=reason
                        )
                self._metrics.events_taken(len(entries) - len(refused), [letter.code for letter in refused])
                not_taken = {letter.stream_id for letter in taken.refused}
                accepted = [event.traceparent for event, own in events if own.stream_id not in not_taken]
                accepted += [one.traceparent for one in asked]
                self._traces.events_taken(time.perf_counter() - began, accepted, refused)
                return replace(taken, asked=asked)
            same_stream = taken.epoch == epoch and not await self._is_anew(taken.newest)
            if not same_stream:
                self._move_to(taken.epoch if taken.epoch != epoch else await self._epochs.begin(epoch))
                # What the stream does not know of was read before it began anew.
                here = await self._queue.stream.pending(entries)
                epochs |= dict.fromkeys(here, self.epoch or 0)

    async def _is_anew(self, newest: StreamId | None) -> bool:
        """Whether the stream is another than the one in which that entry was taken.

        An older state of it, which was restored, is the same: what it numbers from now on is newer than all
        that was taken, and what is older has been taken. Unless a clock has gone back since, that is.
        """
        last = await self._queue.stream.last_id()
        if newest is None or last is None or newest <= parse_stream_id(last, newest.epoch):
            return False
        return not 0 <= await self._queue.stream.now_ms() - newest.ms < _A_YEAR_MS

    def _parse(
        self, entries: Sequence[StreamEntry], epochs: Mapping[str, int]
    ) -> tuple[_Read, Sequence[DeadLetter], Sequence[StatusAsked]]:
        events, letters, asked = [], [], []
        for entry in entries:
            position = parse_stream_id(entry.id, epochs[entry.id])
            if entry.unread:
                letters.append(_letter(entry, position, "invalid_event", entry.unread, None))
                continue
            try:
                event = self._parse_one(entry, position)
            except InvalidEvent as error:
                letters.append(_letter(entry, position, error.code, str(error), read_about(entry.event)))
            else:
                if isinstance(event, StatusAsked):
                    asked.append(event)
                    continue
                events.append((event, self._refusal(entry, event)))
        return events, letters, asked

    def _refusal(self, entry: StreamEntry, event: Event) -> DeadLetter:
        """What the event becomes should the catalog refuse it."""
        reason = "the id belongs to another source"
        letter = _letter(entry, event.position, "invalid_event", reason, _about(event))
        app = self._queue.apps.domains.of_source(event.source) if isinstance(event, UploadRequested) else None
        if app is None:
            return letter
        reason = f"replaces: must be an upload below {app.prefix}, as the source is"
        return replace(letter, may_not_replace=with_origin(entry.moved_from, entry.moved_id, reason))

    def parse(self, entry: StreamEntry) -> Event | StatusAsked:
        """What an entry of the stream says. Raises: InvalidEvent."""
        return self._parse_one(entry, parse_stream_id(entry.id, self.epoch or 0))

    def _parse_one(self, entry: StreamEntry, position: StreamId) -> Event | StatusAsked:
        """The event, as its app may ask for it. Raises: InvalidEvent."""
        event = parse_event(entry.event, position, self._recipes, entry.written_ms)
        if entry.moved_from is None:
            return event
        domain = self._queue.apps.domains.of_stream(entry.moved_from)
        if domain is None:
            reason = f"was moved from {entry.moved_from[:64]!r}, which MEDIA_STREAMS does not list"
            raise InvalidEvent("invalid_event", reason)
        event = within(event, domain)
        if isinstance(event, StatusAsked) and entry.moved_id is not None:
            return replace(event, entry=entry.moved_id)
        return event

    async def _record(
        self, events: _Read, letters: Sequence[DeadLetter], epoch: int, *, same_stream: bool
    ) -> Taken | PossibleRestart:
        put = partial(self._store.take, epoch=epoch, same_stream=same_stream, **self._admit)
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
                self._take_places(taken)
                self.unrecorded -= {letter.stream_id for letter in (*(one for _, one in events), *letters)}
            return taken
        return await self._record_singly(events, letters, put)

    async def _record_singly(
        self, events: _Read, letters: Sequence[DeadLetter], put: _Put
    ) -> Taken | PossibleRestart:
        """Record each entry in a transaction of its own, so that one that fails leaves the others alone."""
        found = [await self._record_one([], letter, put) for letter in letters]
        for event, letter in events:
            try:
                found.append(await self._record_one([(event, letter)], letter, put))
            except CatalogUnavailable:
                raise
            except Exception as error:
                with _naming_trace(letter):
                    log.exception("event_failed", stream_id=letter.stream_id)
                reason = f"could not be recorded: {words(error)}"[:1000]
                reason = with_origin(*letter.sent_as, reason)
                failed = replace(letter, code="internal_error", message=reason)
                found.append(await self._record_one([], failed, put))
        parts = [part for part in found if isinstance(part, Taken)]
        if restarts := [part for part in found if isinstance(part, PossibleRestart)]:
            return restarts[0]  # all of it once more; what has been taken changes nothing then
        return Taken(
            jobs={job_id: ids for part in parts for job_id, ids in part.jobs.items()},
            refused=[letter for part in parts for letter in part.refused],
            messages=[message for part in parts for message in part.messages],
            outdated=[entry for part in parts for entry in part.outdated],
            owners={each: owner for part in parts for each, owner in part.owners.items()},
            parked={owner for part in parts for owner in part.parked},
        )

    async def _record_one(self, event: _Read, letter: DeadLetter, put: _Put) -> Taken | PossibleRestart:
        """An event, or without one its letter; one that meets a damaged page is noted as unrecorded."""
        try:
            taken = await put(event, [] if event else [letter])
        except CatalogDamaged as error:
            if letter.stream_id not in self.unrecorded:
                with _naming_trace(letter):
                    log.error("event_not_recorded", stream_id=letter.stream_id, reason=str(error))  # noqa: TRY400
            self.unrecorded.add(letter.stream_id)
            return Taken({}, [])
        if isinstance(taken, Taken):
            self._take_places(taken)
            self.unrecorded.discard(letter.stream_id)
        return taken

    def _take_places(self, taken: Taken) -> None:
        """Before the next ones are recorded, which are admitted by what is left."""
        if self._places is not None:
            for job_id, ids in taken.jobs.items():
                self._places.begin(job_id, {each: taken.owners[each] for each in ids})
            self._places.park(taken.parked)


def _letter(
    entry: StreamEntry, position: StreamId, code: str, reason: str, about: About | None
) -> DeadLetter:
    if about is not None:
        about = replace(about, stream=entry.moved_from, entry=entry.moved_id)
    reason = with_origin(entry.moved_from, entry.moved_id, reason)
    whole = len(entry.raw) <= MAX_DEAD_LETTER_BYTES and is_json(entry.event)
    most = MAX_DEAD_LETTER_BYTES if whole else NO_JSON_BYTES
    return DeadLetter(entry.id, code, reason, entry.raw[:most], about=about, position=position)


def _naming_trace(letter: DeadLetter) -> AbstractContextManager[Any]:
    return naming_trace(letter.about.traceparent if letter.about else None)


def _about(event: Event) -> About:
    if isinstance(event, UploadRequested):
        return About(event.id, event.source, event.metadata, event.traceparent)
    return About(event.id, None, traceparent=event.traceparent)
