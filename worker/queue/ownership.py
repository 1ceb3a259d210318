"""Whose a stream is: it is tied to one catalog, as the storage root is."""

import time

from arq.connections import ArqRedis

from worker.queue.errors import StreamMismatch
from worker.queue.mapping import maps_errors
from worker.queue.optional import unless_denied
from worker.queue.refusals import of_another

_LATELY_S = 1.0


@maps_errors
class Ownership:
    """The catalog that the stream is tied to, and whether it is ours."""

    def __init__(self, redis: ArqRedis, stream: str) -> None:
        self._redis = redis
        self._stream = stream
        self._key = f"{stream}:catalog"
        self._catalog_id: str | None = None
        self._checked_until = float("-inf")

    async def bind(self, catalog_id: str) -> None:
        """Tie the stream to this catalog, as the storage root is: another's events and jobs are not taken.

        Raises: StreamMismatch where it is another's.
        """
        self._catalog_id = catalog_id
        await self.check()

    async def check(self, *, lately: bool = False) -> None:
        """The stream is still this catalog's; after a loss of Redis' data, whoever comes first has it.

        `lately`: it was within the last second. Raises: StreamMismatch.
        """
        if self._catalog_id is None or (lately and time.monotonic() < self._checked_until):
            return
        self._checked_until = float("-inf")
        if await self.owner() != self._catalog_id:
            await self._redis.set(self._key, self._catalog_id, nx=True)
            await self.check_not_of_another(self._catalog_id)
        self._checked_until = time.monotonic() + _LATELY_S

    async def check_not_of_another(self, catalog_id: str | None) -> None:
        """It is this catalog's, or nobody's yet. Raises: StreamMismatch."""
        owner = await self.owner()
        if catalog_id is not None and owner not in (None, catalog_id):
            raise StreamMismatch(of_another(self._stream, owner or "", catalog_id))

    async def rebind(self, catalog_id: str, before: str | None) -> None:
        """Give the stream to this catalog, in the place of `before`. Raises: StreamMismatch."""
        if await self.owner() != before:
            await self.check_not_of_another(catalog_id)
        await self._redis.set(self._key, catalog_id)

    async def owner(self) -> str | None:
        """The catalog that the stream is tied to; None: to none yet, or an app's user may not know."""
        found: bytes | None = await unless_denied(self._redis.get(self._key))
        return None if found is None else found.decode()
