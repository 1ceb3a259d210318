"""A storage whose verbs are timed: the same bytes under the same keys, and somebody who is told."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TypeVar

from storage.blobs import BlobInfo, BlobPart, Existence, Source, Space, Storage
from storage.errors import BlobForbidden, BlobPinned, BlobsUnavailable, RootMismatch
from storage.watch import StorageOperation, StorageWatch

T = TypeVar("T")

_OF_THE_STORAGE = (BlobsUnavailable, RootMismatch)
_OF_ONE_BLOB = (BlobForbidden, BlobPinned)


class WatchedBlobs:
    """The storage `blobs`; `watch` is told how long each verb takes, and which fail."""

    def __init__(self, blobs: Storage, watch: StorageWatch) -> None:
        self._blobs = blobs
        self._watch = watch

    @property
    def collects(self) -> bool:
        return self._blobs.collects

    @contextmanager
    def _timed(self, operation: StorageOperation) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except _OF_THE_STORAGE as error:
            if not isinstance(error, _OF_ONE_BLOB):
                self._watch.failed(operation)
            raise
        finally:
            self._watch.took(operation, time.perf_counter() - began)

    @asynccontextmanager
    async def open(self, key: str, *, fetched: bool = True) -> AsyncIterator[Source]:
        async with AsyncExitStack() as opened:
            with self._timed("open"):
                source = await opened.enter_async_context(self._blobs.open(key, fetched=fetched))
            yield source if source.is_at_hand else replace(source, fetch=self._timed_fetch(source.fetch))

    async def stamp(self, key: str) -> str:
        with self._timed("exists"):
            return await self._blobs.stamp(key)

    def _timed_fetch(self, fetch: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def timed() -> None:
            with self._timed("read"):
                await fetch()

        return timed

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._blobs.read(key)) as parts:
            async for part in self._each("read", parts):
                yield part

    async def _each(
        self, operation: StorageOperation, parts: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """The same, without the time in which whoever asks for them does something else."""
        while True:
            with self._timed(operation):
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    return
            yield part

    async def read_part(self, key: str, start: int, most: int, stamp: str = "") -> BlobPart:
        with self._timed("read"):
            return await self._blobs.read_part(key, start, most, stamp)

    async def get(self, key: str) -> bytes:
        with self._timed("read"):
            return await self._blobs.get(key)

    async def put(self, key: str, chunks: AsyncIterator[bytes], size: int | None = None) -> int:
        with self._timed("store"):
            return await self._blobs.put(key, chunks, size)

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        with self._timed("store"):
            await self._blobs.store(contents)

    async def delete(self, key: str) -> None:
        with self._timed("delete"):
            await self._blobs.delete(key)

    async def move(self, key: str, to: str, *, replace: bool = True) -> BlobInfo | None:
        with self._timed("move"):
            return await self._blobs.move(key, to, replace=replace)

    async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        with self._timed("exists"):
            return await self._blobs.stat(keys)

    async def list(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[Sequence[str], None]:
        async with aclosing(self._blobs.list(prefix, after, on_misnamed=on_misnamed)) as pages:
            async for page in self._each("list", pages):
                yield page

    def list_infos(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[BlobInfo, None]:
        """Not timed: blob by blob that would cost more than it tells."""
        return self._blobs.list_infos(prefix, after, on_misnamed=on_misnamed)

    async def folders(self, prefix: str, start: str = "", *, proved: bool = True) -> Sequence[str]:
        with self._timed("list"):
            return await self._blobs.folders(prefix, start, proved=proved)

    async def probe(self) -> None:
        with self._timed("probe"):
            await self._blobs.probe()

    async def prove_listing(self) -> None:
        with self._timed("list"):
            await self._blobs.prove_listing()

    async def check_identity(self) -> None:
        with self._timed("probe"):
            await self._blobs.check_identity()

    async def space(self) -> Space | None:
        return await self._blobs.space()

    async def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        await self._blobs.bind(catalog_id, catalog_is_new=catalog_is_new)

    async def rebind(self, catalog_id: str) -> None:
        await self._blobs.rebind(catalog_id)

    async def catalog_id(self) -> str | None:
        return await self._blobs.catalog_id()

    async def prepare(self) -> None:
        await self._blobs.prepare()

    async def find_lacks(self) -> Sequence[str]:
        return await self._blobs.find_lacks()

    async def enter(self, area: str) -> None:
        await self._blobs.enter(area)
