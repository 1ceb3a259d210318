"""The limits of uploads, which apps read: one key beside each stream that apps write."""

from collections.abc import Collection, Sequence

from arq.connections import ArqRedis

from worker.queue.mapping import maps_errors

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

    async def publish(self, limits: bytes) -> None:
        """Write them, in place of what is there."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self.keys:
                pipe.set(key, limits)
            await pipe.execute()
