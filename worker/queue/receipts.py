"""Receipts: what was done at once, kept for a while, so that whoever did it can see what becomes of it."""

from uuid import uuid4

from arq.connections import ArqRedis

from worker.queue.mapping import maps_errors

KEPT_S = 3600  # of some thousand uploads one has 200 kB


@maps_errors
class Receipts:
    """What was done, by a token that nobody guesses: any process of a server can tell it."""

    def __init__(self, redis: ArqRedis, stream: str) -> None:
        self._redis = redis
        self._stream = stream

    async def keep(self, content: bytes) -> str:
        """Keep that; returns the token under which it is found."""
        token = uuid4().hex[:16]
        await self._redis.set(self._key(token), content, ex=KEPT_S)
        return token

    async def find(self, token: str) -> bytes | None:
        """What was kept under that token; None: nothing, or it was too long ago."""
        content: bytes | None = await self._redis.get(self._key(token))
        return content

    def _key(self, token: str) -> str:
        return f"{self._stream}:receipts:{token}"
