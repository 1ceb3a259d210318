"""The streams of single apps: one worker at a time moves their entries to the stream of all workers."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from arq.connections import ArqRedis
from redis.exceptions import WatchError

from worker.domains import Domains
from worker.queue.mapping import maps_errors
from worker.queue.replies import ReplyTooLarge
from worker.queue.stream import FIELD, MOVED_EVENT, MOVED_FIELDS, MOVED_FROM, MOVED_ID, MOVED_UNREAD, raw_of

MAX_RAW_BYTES = 128 * 1024  # of an entry without an event

_Entry = tuple[bytes, Mapping[bytes, bytes] | None]


@maps_errors
class AppStreams:
    """The streams of `domains`, whose entries `consumer` moves while it has the lease for that.

    One at a time, because the order of a stream would not hold where two moved what each has read; and
    whoever lost the lease moves nothing, because the move is tied to it.
    """

    def __init__(self, redis: ArqRedis, consumer: str, domains: Domains) -> None:
        self.domains = domains
        self._redis = redis
        self._consumer = consumer.encode()
        self._lease = f"{domains.stream}:relay"

    async def lead(self, lease_ms: int) -> bool:
        """Take the lease, or renew it; False while another worker has it."""
        if await self._redis.set(self._lease, self._consumer, nx=True, px=lease_ms):
            return True
        if await self._redis.get(self._lease) == self._consumer:
            return bool(await self._redis.pexpire(self._lease, lease_ms))
        if await self._redis.pttl(self._lease) == -1:  # a lease that does not end is nobody's
            await self._redis.pexpire(self._lease, lease_ms)
        return False

    async def end(self) -> None:
        """Give the lease back, if it is ours."""
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(self._lease)
            if await pipe.get(self._lease) == self._consumer:
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.delete(self._lease)
                await _executed(pipe)

    async def read(self, stream: str, count: int) -> Sequence[_Entry]:
        """The oldest entries; of one that is too large to be read only its ID."""
        try:
            found: Sequence[_Entry] = await self._redis.xrange(stream, count=count)
        except ReplyTooLarge as error:
            if count > 1:
                return await self.read(stream, 1)
            if error.first_id is None:
                raise
            return [(error.first_id.encode(), None)]
        return found

    async def move(self, stream: str, entries: Sequence[_Entry], lease_ms: int) -> bool:
        """Move `entries` to the stream of all workers, all or none; False if the lease was lost."""
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(self._lease)
            if await pipe.get(self._lease) != self._consumer:
                return False
            await pipe.xlen(self.domains.stream)  # what is no stream would take nothing, and all be deleted
            pipe.multi()  # type: ignore[no-untyped-call]
            for entry_id, fields in entries:
                pipe.xadd(self.domains.stream, _moved(stream, entry_id, fields))
            pipe.xdel(stream, *[entry_id for entry_id, _ in entries])
            pipe.pexpire(self._lease, lease_ms)
            return await _executed(pipe)

    async def wait(self, block_ms: int) -> None:
        """Wait up to `block_ms` until an entry is in one of the streams."""
        streams: dict[Any, Any] = dict.fromkeys(self.domains.streams, "0")
        with suppress(ReplyTooLarge):
            await self._redis.xread(streams, count=1, block=block_ms)

    async def depth(self) -> int:
        """How many entries wait in all of them."""
        return sum([int(await self._redis.xlen(name)) for name in self.domains.streams])

    async def oldest_ms(self) -> int | None:
        """When the oldest entry that waits was written, in ms since 1970; None: nothing waits."""
        found = [await self.read(name, 1) for name in self.domains.streams]
        return min((int(entries[0][0].partition(b"-")[0]) for entries in found if entries), default=None)

    async def send(self, stream: str, body: bytes) -> None:
        """Put an event on an app's stream, as the app does."""
        await self._redis.xadd(stream, {FIELD: body})


async def _executed(pipe: Any) -> bool:  # noqa: ANN401 (of redis-py, which does not type it)
    try:
        await pipe.execute()
    except WatchError:  # the lease ended, or is another's by now
        return False
    return True


def _moved(stream: str, entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> dict[Any, Any]:
    """The entry as workers read it: nothing but its event is the app's own."""
    moved: dict[Any, Any] = {MOVED_FROM: stream, MOVED_ID: entry_id}
    if fields is None:
        return moved | {MOVED_UNREAD: "1"}
    event = fields.get(FIELD.encode())
    if event is None:
        return moved | {MOVED_FIELDS: raw_of(fields)[:MAX_RAW_BYTES]}
    return moved | {MOVED_EVENT: event}
