"""The seal of a storage that moves: its marker says where to, so that nobody goes on with it meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from storage.blobs import CheckIdentity, Identity
from storage.blobs.owners import moved, moving
from storage.errors import RootMismatch


class Sealable(CheckIdentity, Identity, Protocol):
    """What sealing a storage needs of it."""


async def bind_although_sealed(blobs: Identity, catalog_id: str, url: str) -> None:
    """Bind the storage to its catalog, also where it is sealed because it moves to `url`.

    Raises: RootMismatch where it belongs to another, or moves elsewhere.
    """
    seal = moving(catalog_id, url)
    is_sealed = await blobs.catalog_id() == seal
    await blobs.bind(seal if is_sealed else catalog_id, catalog_is_new=False)


class Seal:
    """The seal of `blobs`, the storage of that catalog, which moves to `url`."""

    def __init__(self, blobs: Sealable, catalog_id: str, url: str) -> None:
        self._blobs = blobs
        self._catalog_id = catalog_id
        self._moving = moving(catalog_id, url)
        self._moved = moved(catalog_id, url)

    async def is_set(self) -> bool:
        """Whether a move has begun that was not ended, nor taken back."""
        return await self._blobs.catalog_id() == self._moving

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Seal the storage; where what is done meanwhile fails, it is used again.

        Raises: RootMismatch where somebody else has ended the move, or taken it back.
        """
        await self._blobs.check_identity()
        await self._blobs.rebind(self._moving)
        try:
            yield
        except BaseException:
            await self.take_back()
            raise
        if not await self.is_set():
            raise RootMismatch("Somebody else has ended this move, or taken it back.")

    async def take_back(self) -> None:
        """Let the storage be used again; one that is not sealed stays as it is."""
        if await self.is_set():
            await self._blobs.rebind(self._catalog_id)

    async def end(self) -> None:
        """Let the marker say for good where the storage is now."""
        await self._blobs.rebind(self._moved)
