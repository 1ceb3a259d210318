"""How many uploads each token of the HTTP face has been used for: a set of their names a token."""

from arq.connections import ArqRedis

from worker.queue.mapping import maps_errors


@maps_errors
class TokenUses:
    """The uploads that each token was used for, until it has expired. A token is named by its digest."""

    def __init__(self, redis: ArqRedis, stream: str) -> None:
        self._redis = redis
        self._stream = stream

    async def allows(self, token: str, upload: str, most: int) -> bool:
        """Whether the token was used for that upload already, or for fewer than `most`."""
        key = self._key(token)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sismember(key, upload)
            pipe.scard(key)
            is_known, used = await pipe.execute()
        return bool(is_known) or used < most

    async def use(self, token: str, upload: str, most: int, expires_at: int) -> bool:
        """Count that upload, which is counted once whatever comes; False if `most` others are."""
        key = self._key(token)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.sadd(key, upload)
            pipe.scard(key)
            pipe.expireat(key, expires_at)
            is_new, used, _ = await pipe.execute()
        if is_new and used > most:
            await self._remove(key, upload)
            return False
        return True

    async def give_back(self, token: str, upload: str) -> None:
        """Count that upload no more."""
        await self._remove(self._key(token), upload)

    async def _remove(self, key: str, upload: str) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.srem(key, upload)
            await pipe.execute()

    def _key(self, token: str) -> str:
        return f"{self._stream}:tokens:{token}"
