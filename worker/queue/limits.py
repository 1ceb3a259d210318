"""The limits of uploads, which apps read: one key beside each stream that apps write."""

from collections.abc import Collection, Sequence
from contextlib import suppress

from arq.connections import ArqRedis
from redis.exceptions import WatchError

from worker.queue.mapping import maps_errors
from worker.queue.ownership import Ownership

_STREAM = "uploads"


def limits_key(stream: str) -> str:
    """`media:limits` beside `media:uploads`; beside a stream of another name, that name and `:limits`."""
    prefix, _, last = stream.rpartition(":")
    return f"{prefix if prefix and last == _STREAM else stream}:limits"


@maps_errors
class PublishedLimits:
    """The limits as text, beside these streams; where a key is `taken`, they are not there."""

    def __init__(self, redis: ArqRedis, streams: Sequence[str], taken: Collection[str]) -> None:
        self.keys = [key for stream in streams if (key := limits_key(stream)) not in taken]
        self._redis = redis

    async def publish(self, key: str, limits: bytes, ownership: Ownership) -> None:
        """Write them to one of the keys in place of what is there, if the stream is ours all the while.

        Raises: StreamMismatch.
        """
        while True:
            async with self._redis.pipeline(transaction=True) as pipe:
                await ownership.check_within(pipe)
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.set(key, limits)
                with suppress(WatchError):  # whose the stream is was written meanwhile
                    await pipe.execute()
                    return
