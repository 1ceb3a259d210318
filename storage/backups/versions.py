"""The versions of originals in a backup: the newest in `files`, in `replaced` those that were there before.

In `replaced` each original is a folder under its key, and each earlier version a file in it, named by the
time at which it was replaced.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage.backups.folder import FILES
from storage.blobs import BlobInfo, Existence
from storage.blobs.local import LocalBlobs, open_local

REPLACED = "replaced"


@dataclass(frozen=True)
class Version:
    """One version of an original: where it lies, its bytes, and when it was written."""

    blobs: LocalBlobs
    key: str
    bytes: int
    written_ns: int

    @property
    def path(self) -> Path:
        """Its file."""
        return self.blobs.root / self.key


class Versions:
    """The versions in the backup; hold it through `open_versions`."""

    def __init__(self, files: LocalBlobs, replaced: LocalBlobs | None) -> None:
        self.files = files
        self._replaced = replaced

    async def choose(self, fits: Mapping[str, Callable[[int], bool]]) -> Mapping[str, Version | None]:
        """By key: the newest version whose size fits, else the newest.

        None where the newest cannot be read; a key of which the backup has nothing is left out.
        """
        chosen: dict[str, Version | None] = {}
        for key, info in (await self.files.stat(list(fits))).items():
            if info is Existence.MISSING:
                continue
            newest = _version(self.files, info) if isinstance(info, BlobInfo) else None
            chosen[key] = newest
            if newest is None or not fits[key](newest.bytes):
                earlier = [one for one in await self._earlier(key) if fits[key](one.bytes)]
                chosen[key] = earlier[0] if earlier else newest
        return chosen

    async def _earlier(self, key: str) -> Sequence[Version]:
        """Those that were replaced, the newest first."""
        if self._replaced is None:
            return []
        found: list[str] = []
        async with aclosing(self._replaced.list(key)) as pages:
            async for page in pages:
                found += [one for one in page if one.rpartition("/")[0] == key]
        infos = (await self._replaced.stat(sorted(found, reverse=True))).values()
        return [_version(self._replaced, info) for info in infos if isinstance(info, BlobInfo)]


def _version(blobs: LocalBlobs, info: BlobInfo) -> Version:
    return Version(blobs, info.key, info.bytes, info.written_ns)


@asynccontextmanager
async def open_versions(folder: Path) -> AsyncIterator[Versions]:
    """The versions in the backup at `folder`. Raises: RootMismatch where it has no originals."""
    async with AsyncExitStack() as stack:
        files = await stack.enter_async_context(open_local(folder / FILES, create=False))
        replaced = None
        if (folder / REPLACED).is_dir():
            replaced = await stack.enter_async_context(open_local(folder / REPLACED, create=False))
        yield Versions(files, replaced)


class VersionKeeper:
    """Keeps what is replaced in `files` as a version in `replaced`: by a hard link where possible."""

    def __init__(self, files: LocalBlobs, replaced: LocalBlobs, now_ms: Callable[[], int]) -> None:
        self._files = files
        self._replaced = replaced
        self._now_ms = now_ms
        self._link = replaced.linker(files)

    @asynccontextmanager
    async def replacing(self, key: str) -> AsyncIterator[None]:
        """Keep the original that is there, unless the one that the body puts in its place has the same bytes.

        Raises: StorageFull, BlobsUnavailable, BlobRefused where it cannot be kept; the body is not run then.
        """
        before = (await self._files.stat([key]))[key]
        if before is Existence.MISSING:
            yield
            return
        kept = f"{key}/{_moment(self._now_ms())}"
        if await self._link(key, kept) is None:
            async with aclosing(self._files.read(key)) as parts:
                await self._replaced.put(kept, parts)
        try:
            yield
        finally:
            if await self._is_same(key, kept):
                await self._replaced.delete(kept)

    async def _is_same(self, key: str, kept: str) -> bool:
        now, before = (await self._files.stat([key]))[key], (await self._replaced.stat([kept]))[kept]
        if not isinstance(now, BlobInfo) or not isinstance(before, BlobInfo) or now.bytes != before.bytes:
            return False
        if now.identity == before.identity:
            return True
        return await _sha256(self._files, key) == await _sha256(self._replaced, kept)


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H%M%S}.{ms % 1000:03}Z"


async def _sha256(blobs: LocalBlobs, key: str) -> bytes:
    digest = hashlib.sha256()
    async with aclosing(blobs.read(key)) as parts:
        async for part in parts:
            digest.update(part)
    return digest.digest()
