"""Names of uploads that are stored just now: of two pictures at the same time, one has the name."""

from arq.connections import ArqRedis

from worker.queue.mapping import maps_errors

_KEPT_S = 60  # longer than it takes until the picture can be seen in the storage


@maps_errors
class UploadNames:
    """Which content is about to be stored under a name, whichever process does it."""

    def __init__(self, redis: ArqRedis, stream: str) -> None:
        self._redis = redis
        self._stream = stream

    async def claim(self, name: str, sha256: str) -> bool:
        """Claim a name for a content; False: another content has it just now."""
        key = f"{self._stream}:names:{name}"
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(key, sha256, nx=True, ex=_KEPT_S)
            pipe.get(key)
            _, holder = await pipe.execute()
        return bool(holder == sha256.encode())
