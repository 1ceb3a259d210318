"""The stream of events: apps append entries, one worker of the group takes each, and deletes it when done."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from redis.exceptions import ResponseError, WatchError

from worker.queue.errors import QueueUnavailable
from worker.queue.heartbeats import Heartbeats
from worker.queue.mapping import maps_errors, unless_denied
from worker.queue.replies import ReplyTooLarge

GROUP = "workers"
FIELD = "event"
_WRITTEN = "written"  # ms since 1970
MOVED_FROM, MOVED_ID = "moved-from", "moved-id"
"""Of an entry that was moved: its app's stream, and its ID there. Only its event is the app's own then."""
MOVED_EVENT, MOVED_FIELDS, MOVED_UNREAD = "moved-event", "moved-fields", "moved-unread"
"""Its event; or all that an entry without one held; or that it was too large to be read.

Not in the field `event`: a worker that knows nothing of apps' streams would take it for one that may speak of
everything.
"""
_LONGEST_NAME = 512  # bytes
_LONGEST_ID = 41  # characters: two numbers of 64 bits
_MOST_PENDING = 10_000  # more than a worker reads without an acknowledgement
_DIGITS = 18  # of a number that every database has room for
ALONE_FROM = 3
"""The delivery from which on an entry is taken alone: whoever had it before did not come back."""
GIVEN_UP_FROM = 5
"""The delivery from which on an entry is not read any more, where each before ended its reader."""
_ALONE = 10**9
"""What Redis' count of deliveries begins with once an entry is taken alone.

Before, it says little: it grows with each read of a worker that waits for the catalog, and with each that
takes over from one that waits. From here on only a reader that is gone adds to it.
"""
TOO_LARGE = "it is larger than what a worker reads of an entry"
ENDED_ITS_READERS = "it ended every worker that read it"
UNREAD = (TOO_LARGE, ENDED_ITS_READERS)


class NoGroup(Exception):
    """The stream or its consumer group is not there (any more)."""


@dataclass(frozen=True)
class StreamEntry:
    """One entry of the stream: its ID, its field `event` if it has one, and all of it as bytes.

    Where a bucket announces an original, `written_ms` is when that was written. Of an entry that nobody may
    read there is only the ID, and why it is `unread`. Where it was moved from an app's stream, it has the ID
    `moved_id` there.
    """

    id: str
    event: bytes | None
    raw: bytes
    written_ms: int | None = None
    unread: str | None = None
    moved_from: str | None = None
    moved_id: str | None = None


@dataclass(frozen=True)
class Pending:
    """An entry that a consumer has read and not acknowledged, and Redis' count of its deliveries."""

    id: str
    consumer: str
    reads: int

    @property
    def deaths_alone(self) -> int:
        """How many readers had it alone, the one that has it now included."""
        return max(0, self.reads - _ALONE)


@contextmanager
def _group_needed() -> Iterator[None]:
    try:
        yield
    except ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
        raise NoGroup from error


@maps_errors
class EventStream:
    """The entries of the stream `name`, as `consumer` of the group reads them."""

    def __init__(self, redis: ArqRedis, name: str, consumer: str, heartbeats: Heartbeats) -> None:
        self.name = name
        self._heartbeats = heartbeats
        self._redis = redis
        self._consumer = consumer
        self.left_unread = False
        """Whether entries are pending here that were too large together; `read_own` reads each alone."""

    async def has_group(self) -> bool:
        try:
            with _group_needed():
                await self._redis.xpending(self.name, GROUP)
        except NoGroup:
            return False
        return True

    async def make_group(self) -> None:
        """Make the stream and its consumer group where they are missing."""
        try:
            await self._redis.xgroup_create(self.name, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def read(self, count: int, block_ms: int | None) -> Sequence[StreamEntry]:
        """Read up to `count` new entries; wait up to `block_ms` (None: not at all) for the first.

        Raises: NoGroup.
        """
        return await self._read(">", count, block_ms)

    async def read_own(self, count: int) -> Sequence[StreamEntry]:
        """Read the entries again that this consumer has not acknowledged. Raises: NoGroup."""
        found = await self._read("0", 1 if self.left_unread else count, None)
        self.left_unread = self.left_unread and bool(found)
        return found

    async def _read(self, start: str, count: int, block_ms: int | None) -> Sequence[StreamEntry]:
        streams: dict[Any, Any] = {self.name: start}
        try:
            with _group_needed():
                found = await self._redis.xreadgroup(
                    GROUP, self._consumer, streams, count=count, block=block_ms
                )
        except ReplyTooLarge as error:
            return await self._read_singly(error, count)
        except ResponseError as error:
            if "UNBLOCKED" in str(error):  # the stream was deleted while this waited
                return []
            raise
        entries = found[0][1] if found else []
        # An entry has a field at least: what has none was deleted while it was pending.
        if gone := [entry_id for entry_id, fields in entries if not fields]:
            await self._redis.xack(self.name, GROUP, *gone)
            if len(gone) == len(entries):
                return await self._read(start, count, None)  # others may be behind them
        return [_entry(entry_id, fields) for entry_id, fields in entries if fields]

    async def _read_singly(self, error: ReplyTooLarge, count: int) -> Sequence[StreamEntry]:
        """After a reply to this consumer that was too large: what it should have had is pending with it."""
        if count == 1 and error.first_id:
            return [StreamEntry(error.first_id, None, b"", unread=TOO_LARGE)]
        if count == 1:
            raise error
        self.left_unread = True
        return await self._read("0", 1, None)

    async def take_over(self, idle_ms: int, count: int) -> Sequence[StreamEntry]:
        """Claim entries that were read at least `idle_ms` ago and have not been acknowledged.

        Of those whose readers did not come back again and again it is one, and at last one that is unread.

        Raises: NoGroup.
        """
        pending = await self._claimable(await self._pending(count, idle=idle_ms))
        return await self._claim(next(_portions(pending), []), idle_ms)

    async def take_over_some(self, pending: Collection[Pending]) -> Sequence[StreamEntry]:
        """Claim these entries from whichever consumer has them.

        What is no longer pending, or has been deleted, is left out. Raises: NoGroup.
        """
        oldest_first = sorted(pending, key=lambda each: _order(each.id))
        for portion in _portions(await self._claimable(oldest_first)):
            if found := await self._claim(portion, 0):
                return found
        return []

    async def _claimable(self, pending: Sequence[Pending]) -> Sequence[Pending]:
        """Those but what a worker has alone that lives: it has not died of it, and nobody else need wait."""
        if not any(each.deaths_alone for each in pending):
            return pending
        living = await self._heartbeats.consumers()
        return [each for each in pending if not (each.deaths_alone and each.consumer in living)]

    async def _claim(self, pending: Sequence[Pending], idle_ms: int) -> Sequence[StreamEntry]:
        """Claim one portion."""
        if not pending:
            return []
        ids: list[Any] = [each.id for each in pending]
        deaths_alone = pending[0].deaths_alone
        unread = deaths_alone > GIVEN_UP_FROM - 1 - ALONE_FROM
        # What is taken together keeps Redis' own count.
        reads = None if pending[0].reads < ALONE_FROM - 1 or unread else _ALONE + deaths_alone + 1
        try:
            with _group_needed():
                answer = await self._redis.xclaim(
                    self.name,
                    GROUP,
                    self._consumer,
                    min_idle_time=idle_ms,
                    message_ids=ids,
                    retrycount=reads,
                    justid=unread,
                )
        except ReplyTooLarge as error:
            return await self._read_singly(error, len(ids))
        if unread:
            return [StreamEntry(found.decode(), None, b"", unread=ENDED_ITS_READERS) for found in answer]
        if any(found is None for found, _ in answer):
            return await self.read_own(len(ids))  # Redis 6.2 does not name deleted entries; reading them does
        return [_entry(found, fields) for found, fields in answer if fields]

    async def note_alive(self, count: int) -> None:
        """Have the reads of what is pending here count for nothing, as whoever read it is still here."""
        try:
            with _group_needed():
                found = await self._redis.xpending_range(
                    self.name, GROUP, min="-", max="+", count=count, consumername=self._consumer
                )
                if ids := [each["message_id"] for each in found]:
                    await self._redis.xclaim(
                        self.name, GROUP, self._consumer, 0, ids, retrycount=0, justid=True
                    )
        except NoGroup:
            pass

    async def pending_elsewhere(self, count: int) -> frozenset[Pending]:
        """The oldest entries pending with other consumers. Raises: NoGroup."""
        return frozenset(each for each in await self._pending(count) if each.consumer != self._consumer)

    async def _pending(self, count: int, idle: int | None = None) -> Sequence[Pending]:
        with _group_needed():
            found = await self._redis.xpending_range(
                self.name, GROUP, min="-", max="+", count=count, idle=idle
            )
        return [
            Pending(each["message_id"].decode(), each["consumer"].decode(), each["times_delivered"])
            for each in found
        ]

    async def pending(self, entries: Sequence[StreamEntry]) -> frozenset[str]:
        """The IDs of those `entries` that are pending with this consumer in the stream as it is now."""
        ids = sorted((entry.id for entry in entries), key=_order)
        try:
            with _group_needed():
                found = await self._redis.xpending_range(
                    self.name, GROUP, min=ids[0], max=ids[-1], count=len(ids), consumername=self._consumer
                )
        except NoGroup:
            return frozenset()
        return frozenset(each["message_id"].decode() for each in found).intersection(ids)

    async def last_id(self) -> str | None:
        """The greatest ID the stream ever had; `0-0`: there is no stream; None: this user may not ask."""
        try:
            info = await unless_denied(self._redis.xinfo_stream(self.name))
        except ReplyTooLarge as error:  # the first and the last entry are part of it
            return error.last_generated_id
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return "0-0"
        return info["last-generated-id"].decode() if info is not None else None

    async def check_room(self) -> None:
        """Check that Redis can number more entries: where it cannot, the rest of a transaction is done.

        Raises: QueueUnavailable.
        """
        if (await self.last_id() or "").startswith(f"{2**64 - 1}-"):
            raise QueueUnavailable(f"the IDs of {self.name} are used up; media stream reset begins it anew")

    async def reset(self, *, even_with_entries: bool = False) -> bool:
        """Delete the stream and create it anew; False if entries wait, unless `even_with_entries`."""
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(self.name)
            if await pipe.xlen(self.name) and not even_with_entries:
                return False
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.delete(self.name)
            pipe.xgroup_create(self.name, GROUP, id="0", mkstream=True)
            try:
                await pipe.execute()
            except WatchError:  # an event came meanwhile
                return False
        return True

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        """Acknowledge and delete `entries`, so that the stream's length is the number that wait."""
        ids = [entry.id for entry in entries]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.name, GROUP, *ids)
            pipe.xdel(self.name, *ids)
            await pipe.execute()

    async def forget_consumers(self, idle_ms: int) -> None:
        """Remove consumers that were idle for `idle_ms` and have nothing pending."""
        for consumer in await unless_denied(self._redis.xinfo_consumers(self.name, GROUP)) or ():
            if consumer["pending"] == 0 and consumer["idle"] > idle_ms:
                await self._redis.xgroup_delconsumer(self.name, GROUP, consumer["name"])

    async def leave(self) -> None:
        """Remove this consumer, unless it has pending entries, which another is to claim: it died of none."""
        pending = await self._redis.xpending_range(
            self.name, GROUP, min="-", max="+", count=1, consumername=self._consumer
        )
        if pending:
            await self.note_alive(_MOST_PENDING)
        else:
            await self._redis.xgroup_delconsumer(self.name, GROUP, self._consumer)

    async def depth(self) -> int:
        return int(await self._redis.xlen(self.name))

    async def now_ms(self) -> int:
        """This moment by Redis' clock, which numbers the entries, in ms since 1970."""
        return await now_ms(self._redis)

    async def ahead_ms(self) -> int:
        """How far the stream's newest ID is ahead of Redis' clock, in ms; all later IDs are newer still."""
        newest = int((await self.last_id() or "0").partition("-")[0])
        return max(0, newest - await self.now_ms())

    async def oldest_age_s(self) -> int | None:
        """How long the oldest waiting entry has waited, in s by Redis' clock; None: nothing waits."""
        oldest = await self.oldest_id()
        if oldest is None:
            return None
        return max(0, await self.now_ms() - int(oldest.partition("-")[0])) // 1000

    async def oldest_id(self) -> str | None:
        """The ID of the entry that waits first, read or not; None: nothing waits."""
        try:
            oldest = await self._redis.xrange(self.name, count=1)
        except ReplyTooLarge as error:
            return error.first_id
        return oldest[0][0].decode() if oldest else None

    async def has_until(self, last_id: str | None) -> bool:
        """Whether an entry waits, read or not, that is no newer than that one; None: whether any does."""
        oldest = await self.oldest_id()
        return oldest is not None and (last_id is None or _order(oldest) <= _order(last_id))

    async def before(self, entry_id: str, count: int) -> Sequence[StreamEntry]:
        """The last `count` entries that wait before that one, read or not, newest first.

        They are fewer where some are too large to be read.
        """
        while count:
            try:
                found = await self._redis.xrevrange(self.name, max=f"({entry_id}", count=count)
            except ReplyTooLarge:
                count //= 8
            else:
                return [_entry(found_id, fields) for found_id, fields in found]
        return []

    async def waits(self) -> str:
        """How many events wait, and since when, for people."""
        return waits_in_words(await self.depth(), await self.oldest_age_s())

    async def announce(self, source: str, written_ms: int) -> str:
        """Put an event on the stream for an original that was written then; returns the entry's ID."""
        return await self._add({FIELD: orjson.dumps({"source": source}), _WRITTEN: written_ms})

    async def add(self, event: Mapping[str, Any]) -> str:
        """Put an event on the stream, as any app does; returns the entry's ID."""
        return await self.add_raw(orjson.dumps(event))

    async def add_raw(self, body: bytes) -> str:
        """Put bytes on the stream as an event, whatever they are; returns the entry's ID."""
        return await self._add({FIELD: body})

    async def _add(self, fields: dict[Any, Any]) -> str:
        entry_id: bytes = await self._redis.xadd(self.name, fields)
        return entry_id.decode()


def waits_in_words(depth: int, oldest_s: int | None) -> str:
    """How many events wait, and since when, for people."""
    since = "" if oldest_s is None else f", the oldest for {oldest_s} s"
    return f"{depth} event{' waits' if depth == 1 else 's wait'}{since}"


async def now_ms(redis: ArqRedis) -> int:
    """Now by Redis' clock, or by this machine's where this user may not ask for it, in ms since 1970."""
    found = await unless_denied(redis.time())
    if found is None:
        return timestamp_ms()
    seconds, microseconds = found
    return int(seconds) * 1000 + int(microseconds) // 1000


def _order(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


def _portions(pending: Sequence[Pending]) -> Iterator[Sequence[Pending]]:
    """What is claimed at once: all whose readers need not have died of them, then each other one alone."""
    together = [each for each in pending if each.reads < ALONE_FROM - 1]
    if together:
        yield together
    for each in pending:
        if each not in together:
            yield [each]


def raw_of(fields: Mapping[bytes, bytes]) -> bytes:
    """All names and values of an entry without an event."""
    return b" ".join(name + b"=" + value for name, value in fields.items())


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> StreamEntry:
    event = fields.get(FIELD.encode())
    if (stream := fields.get(MOVED_FROM.encode())) is not None:
        event = fields.get(MOVED_EVENT.encode())
        raw = event if event is not None else fields.get(MOVED_FIELDS.encode(), b"")
        unread = TOO_LARGE if MOVED_UNREAD.encode() in fields else None
        there = fields.get(MOVED_ID.encode(), b"").decode(errors="replace")[:_LONGEST_ID]
        name = stream[:_LONGEST_NAME].decode(errors="replace")
        return StreamEntry(entry_id.decode(), event, raw, None, unread, name, there or None)
    raw = event if event is not None else raw_of(fields)
    written = fields.get(_WRITTEN.encode(), b"")
    written_ms = int(written) if written.isdigit() and len(written) <= _DIGITS else None
    return StreamEntry(entry_id.decode(), event, raw, written_ms)
