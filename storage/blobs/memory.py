"""Blobs as bytes in this process, with the manners of an object store: nothing is renamed, only copied.

It stands in for one in tests and trials. Its descriptors are real, for children.
"""

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count as counter

from storage.blobs import BlobInfo, BlobPart, Existence, Source, stat_listed
from storage.blobs.memory_file import MemoryFile, memory_file
from storage.errors import BlobChanged, BlobNotFound, RootMismatch
from storage.keys import AREAS, blob_folders, is_hidden, segments

_PART = 1024 * 1024  # bytes


@dataclass(frozen=True)
class _Blob:
    content: bytes
    changed_at: float
    version: int


class MemoryBlobs:
    """Blobs that are gone when the process ends."""

    collects = True

    def __init__(self) -> None:
        self._blobs: dict[str, _Blob] = {}
        self._numbers = counter()
        self._catalog_id: str | None = None

    @asynccontextmanager
    async def open(self, key: str, *, fetched: bool = True) -> AsyncIterator[Source]:
        blob = self._blob(key)
        with memory_file() as file:
            fetch, stamp = partial(self._fetch, key, blob, file), _stamp(blob)
            if fetched:
                await fetch()
            yield Source(file.fd, len(blob.content), stamp, _info(key, blob), fetch, file.empty)

    async def stamp(self, key: str) -> str:
        return _stamp(self._blob(key))

    async def _fetch(self, key: str, blob: _Blob, file: MemoryFile) -> None:
        if self._blob(key) is not blob:
            raise BlobChanged(f"{key} was replaced meanwhile")
        if not file.size:
            file.append(blob.content)

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        content = self._blob(key).content
        for start in range(0, len(content), _PART):
            yield content[start : start + _PART]

    async def read_part(self, key: str, start: int, most: int, stamp: str = "") -> BlobPart:
        blob = self._blob(key)
        if stamp not in ("", _stamp(blob)):
            raise BlobChanged(f"{key} was replaced meanwhile")
        size = len(blob.content)
        begin = start if start >= 0 else max(0, size + start)
        return BlobPart(blob.content[begin : begin + most], begin, size, _stamp(blob))

    async def get(self, key: str) -> bytes:
        return self._blob(key).content

    async def put(self, key: str, chunks: AsyncIterator[bytes], size: int | None = None) -> int:
        segments(key)
        content = b"".join([chunk async for chunk in chunks])
        self._store(key, content)
        return len(content)

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        for key, _ in contents:
            segments(key)
        for key, content in contents:
            self._store(key, content)

    async def delete(self, key: str) -> None:
        segments(key)
        self._blobs.pop(key, None)

    async def move(self, key: str, to: str, *, replace: bool = True) -> BlobInfo | None:
        segments(key)
        segments(to)
        if key not in self._blobs or (to in self._blobs and not replace):
            return None
        self._store(to, self._blobs[key].content)  # a copy: for a moment there are two, and it is a newer one
        del self._blobs[key]
        return _info(to, self._blobs[to])

    async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        for key in keys:
            segments(key)
        found = {key: _info(key, self._blobs[key]) for key in keys if key in self._blobs}
        return {**dict.fromkeys(keys, Existence.MISSING), **found}

    async def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        if self._catalog_id is None and catalog_is_new:
            self._catalog_id = catalog_id
        if self._catalog_id != catalog_id:
            raise RootMismatch(f"the storage belongs to the catalog {self._catalog_id}, not to {catalog_id}")

    async def rebind(self, catalog_id: str) -> None:
        self._catalog_id = catalog_id

    async def catalog_id(self) -> str | None:
        return self._catalog_id

    async def prepare(self) -> None:
        """Nothing unfinished is ever left over."""

    async def find_lacks(self) -> Sequence[str]:
        return []

    async def enter(self, area: str) -> None:
        """There are no folders."""

    async def probe(self) -> None:
        """Memory that can be asked is there."""

    async def prove_listing(self) -> None:
        """It shows what is there."""

    async def check_identity(self) -> None:
        """Nobody can exchange it."""

    async def space(self) -> None:
        """Nobody can say."""

    async def list(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[Sequence[str], None]:
        segments(prefix)
        below = [key for key in self._blobs if key.startswith(f"{prefix}/") and key > after]
        if page := sorted(key for key in below if prefix not in AREAS or not is_hidden(key.split("/")[1])):
            yield page

    def list_infos(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[BlobInfo, None]:
        return stat_listed(self, prefix, after, on_misnamed)

    async def folders(self, prefix: str, start: str = "", *, proved: bool = True) -> Sequence[str]:
        segments(prefix)
        below = [key.removeprefix(f"{prefix}/") for key in self._blobs if key.startswith(f"{prefix}/{start}")]
        return blob_folders(prefix, {path.split("/")[0] for path in below if "/" in path})

    def _blob(self, key: str) -> _Blob:
        segments(key)
        if key not in self._blobs:
            raise BlobNotFound(f"there is no {key}")
        return self._blobs[key]

    def _store(self, key: str, content: bytes) -> None:
        self._blobs[key] = _Blob(content, time.time(), next(self._numbers))


def _stamp(blob: _Blob) -> str:
    return f"{blob.version}:{len(blob.content)}"


def _info(key: str, blob: _Blob) -> BlobInfo:
    etag = hashlib.md5(blob.content, usedforsecurity=False).hexdigest()
    return BlobInfo(key, len(blob.content), blob.changed_at, etag, blob.version)
