"""Blobs as bytes in this process: a backend for tests and trials. Its descriptors are real, for children."""

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import replace as with_changes
from itertools import count as counter

from storage.blobs import BlobInfo, Existence, Source, Staged
from storage.errors import BlobNotFound, BlobsUnavailable
from storage.keys import segments


@dataclass(frozen=True)
class _Blob:
    content: bytes
    changed_at: float
    version: int


class MemoryBlobs:
    """Blobs that are gone when the process ends."""

    def __init__(self) -> None:
        self._blobs: dict[str, _Blob] = {}
        self._staged: dict[Staged, int] = {}
        self._numbers = counter()

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Source]:
        blob = self._blob(key)
        fd = _readable(blob.content)
        try:
            yield Source(fd, len(blob.content), f"{blob.version}:{len(blob.content)}", _info(key, blob))
        finally:
            os.close(fd)

    async def get(self, key: str) -> bytes:
        return self._blob(key).content

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        segments(key)
        content = b"".join([chunk async for chunk in chunks])
        self._store(key, content)
        return len(content)

    @asynccontextmanager
    async def stage(self, count: int) -> AsyncIterator[Sequence[Staged]]:
        staged = [Staged(os.memfd_create("staged"), f"{next(self._numbers)}") for _ in range(count)]
        self._staged |= {file: os.fstat(file.fd).st_ino for file in staged}
        try:
            yield staged
        finally:
            for file in staged:
                self._staged.pop(file, None)
                os.close(file.fd)

    async def publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        for file, key in files:
            segments(key)
            if self._staged.get(file) != os.fstat(file.fd).st_ino:
                raise BlobsUnavailable("there is another file in the place of a staged one")
        for file, key in files:
            self._store(key, os.pread(file.fd, os.fstat(file.fd).st_size, 0))
            del self._staged[file]

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
        self._blobs[to] = with_changes(self._blobs.pop(key), changed_at=time.time())
        return await self.info(to)

    async def exists(self, key: str) -> Existence:
        segments(key)
        return Existence.PRESENT if key in self._blobs else Existence.MISSING

    async def info(self, key: str) -> BlobInfo:
        blob = self._blob(key)
        return _info(key, blob)

    async def look(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        for key in keys:
            segments(key)
        return {key: await self.info(key) if key in self._blobs else Existence.MISSING for key in keys}

    async def probe(self) -> None:
        """Memory that can be asked is there."""

    async def prove(self) -> None:
        """Nobody can exchange it."""

    async def keys(self, prefix: str, after: str = "") -> AsyncGenerator[Sequence[str], None]:
        if page := [info.key async for info in self.list(prefix, after)]:
            yield page

    async def space(self) -> None:
        """Nobody can say."""

    async def list(
        self, prefix: str, after: str = "", *, passed_over: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[BlobInfo, None]:
        segments(prefix)
        for key in sorted(self._blobs, key=str.encode):
            blob = self._blobs.get(key)
            if blob is not None and key.startswith(f"{prefix}/") and key.encode() > after.encode():
                yield _info(key, blob)

    def _blob(self, key: str) -> _Blob:
        segments(key)
        if key not in self._blobs:
            raise BlobNotFound(f"there is no {key}")
        return self._blobs[key]

    def _store(self, key: str, content: bytes) -> None:
        self._blobs[key] = _Blob(content, time.time(), next(self._numbers))


def _info(key: str, blob: _Blob) -> BlobInfo:
    return BlobInfo(key, len(blob.content), blob.changed_at, str(blob.version), blob.version)


def _readable(content: bytes) -> int:
    """A descriptor that can only be read, as of a file that is another's."""
    fd = os.memfd_create("blob")
    try:
        os.pwrite(fd, content, 0)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
