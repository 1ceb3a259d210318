"""The stream of events: apps append entries, one worker of the group takes each, and deletes it when done."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from redis.exceptions import ResponseError, WatchError

from worker.queue.mapping import maps_errors, unless_denied

GROUP = "workers"
FIELD = "event"
_WRITTEN = "written"  # ms since 1970
_DIGITS = 18  # of a number that every database has room for
_FIRST = "0-0"  # of all IDs


class NoGroup(Exception):
    """The stream or its consumer group is not there (any more)."""


@dataclass(frozen=True)
class StreamEntry:
    """One entry of the stream: its ID, its field `event` if it has one, and all of it as bytes.

    Where a bucket announces an original, `written_ms` is when that was written.
    """

    id: str
    event: bytes | None
    raw: bytes
    written_ms: int | None = None


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

    def __init__(self, redis: ArqRedis, name: str, consumer: str) -> None:
        self.name = name
        self._redis = redis
        self._consumer = consumer
        self._looked_up_to = _FIRST  # where the next search for entries of dead consumers begins

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
        return await self._read("0", count, None)

    async def _read(self, start: str, count: int, block_ms: int | None) -> Sequence[StreamEntry]:
        streams: dict[Any, Any] = {self.name: start}
        try:
            with _group_needed():
                found = await self._redis.xreadgroup(
                    GROUP, self._consumer, streams, count=count, block=block_ms
                )
        except ResponseError as error:
            if "UNBLOCKED" in str(error):  # the stream was deleted while this waited
                return []
            raise
        entries = found[0][1] if found else []
        gone = [entry_id for entry_id, fields in entries if fields is None]
        if gone:  # deleted while they were pending
            await self._redis.xack(self.name, GROUP, *gone)
        return [_entry(entry_id, fields) for entry_id, fields in entries if fields is not None]

    async def take_over(self, idle_ms: int, count: int) -> Sequence[StreamEntry]:
        """Claim entries that another consumer read at least `idle_ms` ago and has not acknowledged.

        Raises: NoGroup.
        """
        with _group_needed():
            answer = await self._redis.xautoclaim(
                self.name,
                GROUP,
                self._consumer,
                min_idle_time=idle_ms,
                start_id=self._looked_up_to,
                count=count,
            )
        # Redis scans at most ten times `count` pending entries a call; the next call goes on from there.
        self._looked_up_to = answer[0]
        if any(entry_id is None for entry_id, _ in answer[1]):
            return await self.read_own(count)  # Redis 6.2 does not name deleted entries; reading them does
        return [_entry(entry_id, fields) for entry_id, fields in answer[1]]

    async def pending_elsewhere(self, count: int) -> frozenset[tuple[str, str, int]]:
        """The oldest entries pending with other consumers: ID, consumer, and how often they were read."""
        with _group_needed():
            found = await self._redis.xpending_range(self.name, GROUP, min="-", max="+", count=count)
        return frozenset(
            (each["message_id"].decode(), each["consumer"].decode(), each["times_delivered"])
            for each in found
            if each["consumer"].decode() != self._consumer
        )

    async def take_over_one(self, entry_id: str) -> Sequence[StreamEntry]:
        """Claim that entry from whichever consumer has it; empty if it is no longer pending."""
        answer = await self._redis.xclaim(
            self.name, GROUP, self._consumer, min_idle_time=0, message_ids=[entry_id]
        )
        return [_entry(found, fields) for found, fields in answer if found and fields is not None]

    async def pending(self, entries: Sequence[StreamEntry]) -> frozenset[str]:
        """The IDs of those `entries` that are pending with this consumer in the stream as it is now."""
        ids = sorted((entry.id for entry in entries), key=lambda each: tuple(map(int, each.split("-"))))
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
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return "0-0"
        return info["last-generated-id"].decode() if info is not None else None

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
        """Remove this consumer, unless it has pending entries, which another is to claim."""
        pending = await self._redis.xpending_range(
            self.name, GROUP, min="-", max="+", count=1, consumername=self._consumer
        )
        if not pending:
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
        oldest = await self._redis.xrange(self.name, count=1)
        return oldest[0][0].decode() if oldest else None

    async def waits(self) -> str:
        """How many events wait, and since when, for people."""
        depth, oldest = await self.depth(), await self.oldest_age_s()
        since = "" if oldest is None else f", the oldest for {oldest} s"
        return f"{depth} event{' waits' if depth == 1 else 's wait'}{since}"

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


async def now_ms(redis: ArqRedis) -> int:
    """Now by Redis' clock, or by this machine's where this user may not ask for it, in ms since 1970."""
    found = await unless_denied(redis.time())
    if found is None:
        return timestamp_ms()
    seconds, microseconds = found
    return int(seconds) * 1000 + int(microseconds) // 1000


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> StreamEntry:
    event = fields.get(FIELD.encode())
    raw = event if event is not None else b" ".join(name + b"=" + value for name, value in fields.items())
    written = fields.get(_WRITTEN.encode(), b"")
    written_ms = int(written) if written.isdigit() and len(written) <= _DIGITS else None
    return StreamEntry(entry_id.decode(), event, raw, written_ms)
