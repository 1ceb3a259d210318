"""Where a picture that comes is stored: once under a name, or in the place of what was there."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID
from weakref import WeakValueDictionary

from storage.blobs import BlobInfo, Collect, Put, Read, Stat
from storage.errors import BlobsUnavailable
from worker.http.incoming import EXTENSIONS, Incoming
from worker.http.upload_headers import differs

Check = Callable[[str], Awaitable[None]]
"""What is called with the key of an original, before that can be seen."""


COLLECTED_AT_ONCE = 4  # pictures, each of which takes as much memory as its bytes while it comes
SMALL = 512 * 1024  # bytes of a picture whose memory nobody counts


class StoringBlobs(Put, Read, Stat, Collect, Protocol):
    """The verbs of a storage that storing uses."""


@dataclass(frozen=True)
class Stored:
    """An original in the storage, and whether these bytes are new there."""

    source: str
    is_new: bool


class _AlreadyThere(Exception):
    """What was to be stored is there."""


class Storing:
    """Stores pictures as originals. Every verb raises Problem and StorageError, and leaves nothing then."""

    def __init__(self, blobs: Callable[[], StoringBlobs]) -> None:
        self._blobs = blobs
        self._collecting = asyncio.Semaphore(COLLECTED_AT_ONCE)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def add(self, incoming: Incoming, folder: str, name: UUID, check: Check) -> Stored:
        """Store a picture under a name that nobody has used. `check` is called before it can be seen."""
        source = _source(folder, name, await incoming.extension())
        await self._put(incoming, source, source, lambda: check(source))
        return Stored(source, is_new=True)

    async def add_once(self, incoming: Incoming, folder: str, name: UUID, check: Check) -> Stored:
        """Store a picture under a name, or find that it was. Raises: Problem where that was another."""
        source = _source(folder, name, await incoming.extension())
        found = await self._find(folder, name)
        if found is not None:
            await incoming.read()
        else:

            async def check_again() -> None:
                nonlocal found
                await check(source)
                found = await self._find(folder, name)
                if found is not None:  # a retry at the same time was quicker
                    raise _AlreadyThere

            try:
                await self._put(incoming, source, str(name), check_again)
                return Stored(source, is_new=True)
            except _AlreadyThere:
                assert found is not None
        if not await incoming.is_same(self._blobs(), found):
            raise differs()
        return Stored(found.key, is_new=False)

    async def replace(self, incoming: Incoming, source: str, check: Check) -> Stored:
        """Store a picture under that key, unless the same bytes are there."""
        await incoming.extension()

        async def check_again() -> None:
            await check(source)
            there = (await self._blobs().stat([source]))[source]
            if isinstance(there, BlobInfo) and await incoming.is_same(self._blobs(), there):
                raise _AlreadyThere

        try:
            await self._put(incoming, source, source, check_again)
        except _AlreadyThere:
            return Stored(source, is_new=False)
        return Stored(source, is_new=True)

    async def _find(self, folder: str, name: UUID) -> BlobInfo | None:
        """The picture of that name, whatever its format."""
        sources = [_source(folder, name, extension) for extension in EXTENSIONS]
        found = await self._blobs().stat(sources)
        return next((info for source in sources if isinstance(info := found[source], BlobInfo)), None)

    async def _put(
        self, incoming: Incoming, source: str, name: str, check: Callable[[], Awaitable[None]]
    ) -> None:
        """Store a picture; from `check` on it is the only one that is stored under that name."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with AsyncExitStack() as stack:

            async def check_alone() -> None:
                await stack.enter_async_context(lock)
                await check()

            if self._blobs().collects and incoming.sent.size is None and incoming.sent.most > SMALL:
                await stack.enter_async_context(self._collecting)
            chunks = await stack.enter_async_context(aclosing(incoming.chunks(check_alone)))
            try:
                size = await self._blobs().put(source, chunks, incoming.sent.size)
            except Exception:
                if incoming.error is not None:
                    raise incoming.error from None
                raise
            if size != incoming.bytes:
                raise BlobsUnavailable(f"{source} has {size} of {incoming.bytes} bytes")


def _source(folder: str, name: UUID, extension: str) -> str:
    return f"{folder}/{name.hex[:2]}/{name}.{extension}"
