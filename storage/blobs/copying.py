"""Blobs copied from one storage to another, of whatever backends, while workers go on writing the first."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from storage.blobs import BlobInfo, CheckIdentity, Delete, Existence, Identity, Inspect, Open, Put
from storage.blobs.mapping import mapped
from storage.errors import (
    BlobForbidden,
    BlobNotFound,
    BlobRefused,
    KeyRefused,
    RootMismatch,
)
from storage.keys import TRASH, UPLOADS, VARIANTS
from storage.tasks import together
from storage.threads import in_thread

_AREAS = (UPLOADS, VARIANTS, TRASH)
_AT_ONCE = 16  # blobs: as many are read and written at the same time
_PAGE = 500  # keys
_CHUNK = 1024 * 1024
_CLOCKS_DIFFER_S = 300.0  # at most, from one storage to the other


class CopyFrom(Open, Inspect, CheckIdentity, Protocol):
    """The verbs of the storage that is copied; none of them changes it."""


class CopyTo(Put, Delete, Inspect, Identity, Protocol):
    """The verbs of the storage that becomes the copy."""


@dataclass(frozen=True)
class CopyStep:
    """What became of a page of keys in `area`, up to the key `last`.

    `refused` says of blobs that cannot be copied why not.
    """

    area: str
    last: str
    copied: int = 0
    bytes: int = 0
    same: int = 0
    removed: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


async def check_target(target: CopyTo, catalog_id: str, url: str) -> None:
    """Raises: RootMismatch unless `target` is empty, or has an old or unfinished copy of the same storage."""
    owner = await target.catalog_id()
    if owner is None and not await _is_empty(target):
        raise RootMismatch(f"{url} holds blobs, and no marker says whose: choose an empty place.")
    if owner is not None and not owner.startswith(f"{catalog_id} ("):
        raise RootMismatch(f"{url} belongs to the catalog {owner}: choose an empty place.")


async def _is_empty(blobs: Inspect) -> bool:
    for area in _AREAS:
        async with aclosing(blobs.list(area)) as pages:
            async for _ in pages:
                return False
    return True


class BlobCopy:
    """The copy of the blobs of `source` in `target`; with `dry_run` nothing is written.

    A blob is copied where the target has none, or one of another size; an original also where it was
    written after its copy was. The name of a variant stands for its bytes.
    """

    def __init__(
        self,
        source: CopyFrom,
        target: CopyTo,
        *,
        dry_run: bool = False,
        clocks_differ_s: float = _CLOCKS_DIFFER_S,
    ) -> None:
        self._source = source
        self._target = target
        self._dry_run = dry_run
        self._clocks_differ_s = clocks_differ_s

    async def copy(
        self, area: str = "", after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[CopyStep, None]:
        """Copy what the target lacks, from behind the key `after` of `area` on; yields page by page.

        Raises: BlobsUnavailable, StorageFull, RootMismatch; a copy that goes on behind the last page misses
        nothing.
        """
        for name in _AREAS[_AREAS.index(area) if area else 0 :]:
            start = after if name == area else ""
            async with aclosing(self._source.list(name, start, on_misnamed=on_misnamed)) as pages:
                async for page in _pieces(pages):
                    yield await self._copy_page(name, page)

    async def remove_gone(self) -> AsyncGenerator[CopyStep, None]:
        """Remove copies of what the source surely does not have any more; yields page by page.

        Raises: BlobsUnavailable, RootMismatch.
        """
        for name in _AREAS:
            async with aclosing(self._target.list(name)) as pages:
                async for page in _pieces(pages):
                    yield await self._remove_page(name, page)

    async def _copy_page(self, area: str, keys: Sequence[str]) -> CopyStep:
        seen, copies = await together(self._source.stat(keys), self._target.stat(keys))
        found = [info for info in seen.values() if isinstance(info, BlobInfo)]
        lacking = [info for info in found if not self._has_copy(area, info, copies[info.key])]
        refused = {key: "it cannot be read" for key, info in seen.items() if info is Existence.UNKNOWN}
        written = 0
        if self._dry_run:
            written = sum(info.bytes for info in lacking)
        for start in range(0, 0 if self._dry_run else len(lacking), _AT_ONCE):
            group = lacking[start : start + _AT_ONCE]
            done = await together(*(self._copy_one(info.key) for info in group))
            written += sum(size for size in done if isinstance(size, int))
            refused |= {info.key: why for info, why in zip(group, done, strict=True) if isinstance(why, str)}
        same = len(found) - len(lacking)
        copied = len(lacking) - sum(info.key in refused for info in lacking)
        return CopyStep(area, keys[-1], copied, written, same, refused=refused)

    def _has_copy(self, area: str, info: BlobInfo, copy: BlobInfo | Existence) -> bool:
        if not isinstance(copy, BlobInfo) or copy.bytes != info.bytes:
            return False
        return area == VARIANTS or info.changed_at + self._clocks_differ_s < copy.changed_at

    async def _copy_one(self, key: str) -> int | str:
        """Copy one blob; returns its bytes, or why it cannot be copied."""
        try:
            async with self._source.open(key) as opened:
                return await self._target.put(key, _chunks(key, opened.fd, opened.bytes))
        except BlobNotFound:
            return 0  # it was removed since it was listed
        except (BlobRefused, BlobForbidden, KeyRefused) as error:
            return str(error)

    async def _remove_page(self, area: str, keys: Sequence[str]) -> CopyStep:
        await self._source.check_identity()
        seen = await self._source.stat(keys)
        await self._source.check_identity()  # a storage that went away meanwhile had nothing
        gone = [key for key in keys if seen[key] is Existence.MISSING]
        for start in range(0, 0 if self._dry_run else len(gone), _AT_ONCE):
            await together(*(self._target.delete(key) for key in gone[start : start + _AT_ONCE]))
        return CopyStep(area, keys[-1], removed=len(gone))


async def _pieces(pages: AsyncGenerator[Sequence[str], None]) -> AsyncIterator[Sequence[str]]:
    async for page in pages:
        for start in range(0, len(page), _PAGE):
            yield page[start : start + _PAGE]


async def _chunks(key: str, fd: int, size: int) -> AsyncIterator[bytes]:
    """The bytes of an open blob. Raises: BlobRefused where there are fewer than it had when it was opened."""
    offset = 0
    while offset < size:
        with mapped(key):
            chunk = await in_thread(os.pread, fd, _CHUNK, offset)
        if not chunk:
            raise BlobRefused(f"{key} ended after {offset} of {size} bytes")
        yield chunk
        offset += len(chunk)
