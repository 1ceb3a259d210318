"""From event to job: entries of the stream become rows, then jobs, and are acknowledged last."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import structlog

from storage.catalog.clock import now_ms
from storage.catalog.facts import About, DeadLetter, Taken, Wished
from storage.catalog.intake import Event
from storage.catalog.intake import Intake as Register
from storage.errors import CatalogUnavailable
from worker.announcer import Announcer
from worker.events import InvalidEvent, is_ahead, parse_event, parse_mark, read_about
from worker.queue import UNREACHABLE, Entry, Queue, RedisError

log = structlog.get_logger(__name__)

MAX_LETTER_BYTES = 128 * 1024  # of a bad entry that are kept; the largest good event has half of it

_BLOCK_MS = 1000
_PAUSE_S = 0.25  # while there is enough in hand
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.1, 5.0


class Intake:
    """Takes events from the stream in batches, whatever is there now."""

    def __init__(
        self,
        queue: Queue,
        register: Register,
        announcer: Announcer,
        *,
        recipes: frozenset[str],
        batch_size: int,
        per_ticket: int,
        backlog: int,
        lease_s: float,
        stopping: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._register = register
        self._announcer = announcer
        self._recipes = recipes
        self._batch_size = batch_size
        self._per_ticket = per_ticket
        self._backlog = backlog
        self._lease_s = lease_s
        self._stopping = stopping
        self._has_pending = False
        self._looked_at = float("-inf")

    async def run(self) -> None:
        """Take events until the worker stops; a Redis or catalog that is away is waited for."""
        back_off = _FIRST_BACK_OFF_S
        while not self._stopping.is_set():
            try:
                if await self._queue.untaken_jobs() >= self._backlog:
                    await asyncio.sleep(_PAUSE_S)
                    continue
                await self.step(_BLOCK_MS)
            except (*UNREACHABLE, RedisError, CatalogUnavailable) as error:
                if back_off == _FIRST_BACK_OFF_S:
                    log.warning("intake_waits", reason=str(error))
                await asyncio.sleep(back_off)
                back_off = min(back_off * 2, _LONGEST_BACK_OFF_S)
            else:
                if back_off > _FIRST_BACK_OFF_S:
                    log.info("intake_goes_on")
                back_off = _FIRST_BACK_OFF_S

    async def drain(self, most: int) -> int:
        """Take what is there now, at most about `most` events; gives their number."""
        taken = 0
        while taken < most and not self._stopping.is_set():
            count = await self.step(None)
            if not count:
                break
            taken += count
        return taken

    async def drain_all(self) -> None:
        """Take everything, also what others have read: either they finish it, or their lease runs out."""
        while not self._stopping.is_set() and await self._queue.depth():
            if not await self.step(None):
                await asyncio.sleep(_PAUSE_S)

    async def step(self, block_ms: int | None) -> int:
        """Take one batch: this consumer's own leftovers, a dead one's, or new entries."""
        entries = await self._next(block_ms)
        if entries:
            self._has_pending = True
            taken = await self._take(entries)
            if taken.outdated:
                log.info("outdated_events_answered", count=len(taken.outdated), first=taken.outdated[0])
            await self._queue.enqueue(taken.tickets)
            await self._queue.acknowledge(entries)
            self._has_pending = False
            self._announcer.tell(taken.notices)
        return len(entries)

    async def _next(self, block_ms: int | None) -> Sequence[Entry]:
        if self._has_pending:
            own = await self._queue.read_own(self._batch_size)
            self._has_pending = bool(own)
            if own:
                return own
        if time.monotonic() - self._looked_at > self._lease_s / 3:
            self._looked_at = time.monotonic()
            orphaned = await self._queue.take_over(int(self._lease_s * 1000), self._batch_size)
            if orphaned:
                self._looked_at = float("-inf")  # there may be more
                return orphaned
        return await self._queue.read(self._batch_size, block_ms)

    async def _take(self, entries: Sequence[Entry]) -> Taken:
        now = now_ms()
        if any(is_ahead(entry.id, now) for entry in entries):
            now = await self._queue.now_ms()  # it may be this machine's clock that is wrong
        events: list[tuple[Event, DeadLetter]] = []
        letters: list[DeadLetter] = []
        for entry in entries:
            try:
                event = parse_event(entry.event, parse_mark(entry.id, now), self._recipes)
            except InvalidEvent as error:
                letters.append(_letter(entry, error.code, str(error), read_about(entry.event)))
            else:
                owned = _letter(entry, "invalid_event", "the id belongs to another source", _about(event))
                events.append((event, owned))
        for letter in letters:
            log.warning("event_refused", stream_id=letter.stream_id, code=letter.code, reason=letter.message)
        return await self._record(events, letters)

    async def _record(
        self, events: Sequence[tuple[Event, DeadLetter]], letters: Sequence[DeadLetter]
    ) -> Taken:
        try:
            return await self._put(events, letters)
        except CatalogUnavailable:
            raise
        except Exception:
            log.exception("intake_batch_failed", events=len(events))
        return await self._record_singly(events, letters)

    async def _record_singly(
        self, events: Sequence[tuple[Event, DeadLetter]], letters: Sequence[DeadLetter]
    ) -> Taken:
        """One by one, so that what cannot be recorded harms nobody else."""
        parts = [await self._put([], letters)]
        for event, letter in events:
            try:
                parts.append(await self._put([(event, letter)], []))
            except CatalogUnavailable:
                raise
            except Exception as error:
                log.exception("event_failed", stream_id=letter.stream_id)
                reason = f"could not be recorded: {error}"[:1000]
                failed = replace(letter, code="internal_error", message=reason)
                parts.append(await self._put([], [failed]))
        return Taken(
            tickets={ticket: ids for part in parts for ticket, ids in part.tickets.items()},
            refused=[letter for part in parts for letter in part.refused],
            notices=[notice for part in parts for notice in part.notices],
            outdated=[entry for part in parts for entry in part.outdated],
        )

    async def _put(self, events: Sequence[tuple[Event, DeadLetter]], letters: Sequence[DeadLetter]) -> Taken:
        return await self._register.take(events, letters, per_ticket=self._per_ticket, new_ticket=new_ticket)


def new_ticket() -> str:
    """The id of a job to come."""
    return uuid4().hex


def _letter(entry: Entry, code: str, reason: str, about: About | None) -> DeadLetter:
    return DeadLetter(entry.id, code, reason, entry.raw[:MAX_LETTER_BYTES], about=about)


def _about(event: Event) -> About:
    if isinstance(event, Wished):
        return About(event.id, event.source, event.metadata)
    return About(event.id, None)
