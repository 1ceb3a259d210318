"""What a copy has written, kept in the copy itself: nothing else there is ever taken away."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Protocol
from uuid import uuid4

import orjson

from storage.blobs import BlobInfo, Delete, Get, List, Stat, Store, fingerprint
from storage.keys import COPIED


class NoteVerbs(Store, Get, List, Stat, Delete, Protocol):
    """What keeping notes in a storage needs of it."""


class CopyNotes:
    """Notes in `target` of the blobs that copies have written there, each as it was then."""

    def __init__(self, target: NoteVerbs) -> None:
        self._target = target

    async def note(self, keys: Iterable[str]) -> None:
        """Note that the copy has just written these. Raises: BlobsUnavailable, StorageFull."""
        seen = await self._target.stat(list(keys))
        notes = {key: fingerprint(info) for key, info in seen.items() if isinstance(info, BlobInfo)}
        if notes:
            await self._target.store([(f"{COPIED}/{uuid4().hex}", orjson.dumps(notes))])

    async def among(self, keys: Iterable[str]) -> frozenset[str]:
        """Those of `keys` that a copy wrote, and nobody since. Raises: BlobsUnavailable."""
        seen = await self._target.stat(list(keys))
        now = {key: fingerprint(info) for key, info in seen.items() if isinstance(info, BlobInfo)}
        found: set[str] = set()
        if not now:
            return frozenset()
        async for name in self._names():
            notes = orjson.loads(await self._target.get(name))
            found |= {key for key in now.keys() & notes.keys() if now[key] == notes[key]}
        return frozenset(found)

    async def forget(self) -> None:
        """Remove the notes: the copy is the storage now."""
        async for name in self._names():
            await self._target.delete(name)

    async def _names(self) -> AsyncIterator[str]:
        async with aclosing(self._target.list(COPIED)) as pages:
            async for page in pages:
                for name in page:
                    yield name
