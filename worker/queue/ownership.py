"""The binding of a stream to one catalog, as the storage root has one."""

import time

from arq.connections import ArqRedis
from redis.asyncio.client import Pipeline

from worker.queue.errors import StreamMismatch
from worker.queue.mapping import maps_errors, unless_denied
from worker.queue.refusals import of_another

_LATELY_S = 1.0


@maps_errors
class Ownership:
    """The catalog that the stream is bound to, and whether it is ours."""

    def __init__(self, redis: ArqRedis, stream: str) -> None:
        self._redis = redis
        self._stream = stream
        self._key = f"{stream}:catalog"
        self._catalog_id: str | None = None
        self._checked_until = float("-inf")

    async def bind(self, catalog_id: str) -> None:
        """Bind the stream to this catalog, as the storage root is: events and jobs of others are not taken.

        Raises: StreamMismatch where it is another's.
        """
        self._catalog_id = catalog_id
        await self.check()

    async def check(self, *, lately: bool = False) -> None:
        """Check that the stream is still this catalog's; bind it again if Redis has lost its data.

        `lately`: a check of the last second is enough. Raises: StreamMismatch.
        """
        if self._catalog_id is None or (lately and time.monotonic() < self._checked_until):
            return
        self._checked_until = float("-inf")
        if await self.owner() != self._catalog_id:
            await self._redis.set(self._key, self._catalog_id, nx=True)
            await self.check_not_of_another(self._catalog_id)
        self._checked_until = time.monotonic() + _LATELY_S

    async def check_within(self, pipe: Pipeline) -> None:
        """The same check; what `pipe` does then is undone where the stream changes hands before it is done.

        Raises: StreamMismatch.
        """
        await unless_denied(pipe.watch(self._key))
        await self.check()

    async def check_not_of_another(self, catalog_id: str | None) -> None:
        """Check that the stream is this catalog's, or nobody's yet. Raises: StreamMismatch."""
        owner = await self.owner()
        if catalog_id is not None and owner not in (None, catalog_id):
            raise StreamMismatch(of_another(self._stream, owner or "", catalog_id))

    async def rebind(self, catalog_id: str, before: str | None) -> None:
        """Bind the stream to this catalog instead of to `before`. Raises: StreamMismatch."""
        if await self.owner() != before:
            await self.check_not_of_another(catalog_id)
        await self._redis.set(self._key, catalog_id)

    async def owner(self) -> str | None:
        """The catalog that the stream is bound to; None: to none yet, or this user may not ask."""
        found: bytes | None = await unless_denied(self._redis.get(self._key))
        return None if found is None else found.decode()
