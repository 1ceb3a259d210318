"""Blobs copied from one storage to another, of whatever backends, while workers go on writing the first."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol
from uuid import uuid4

from storage.blobs import BlobInfo, Existence, Identity, Inspect, Move, Open, Put
from storage.blobs.copy_notes import CopyNotes, NoteVerbs
from storage.blobs.mapping import mapped
from storage.errors import (
    BlobForbidden,
    BlobNotFound,
    BlobRefused,
    KeyRefused,
    RootMismatch,
)
from storage.keys import TRASH, UPLOADS, VARIANTS, copy_folder, trash_key
from storage.tasks import together
from storage.threads import in_thread

_AREAS = (UPLOADS, VARIANTS, TRASH)
_AT_ONCE = 16  # blobs: as many are read and written at the same time
_PAGE = 500  # keys
_CHUNK = 1024 * 1024
_CLOCKS_DIFFER_S = 300.0  # at most, from one storage to the other


class CopyFrom(Open, Inspect, Protocol):
    """The verbs of the storage that is copied; none of them changes it."""


class CopyTo(NoteVerbs, Put, Move, Inspect, Identity, Protocol):
    """The verbs of the storage that becomes the copy; what is not a copy's leaves it for its trash alone."""


class CatalogKeys(Protocol):
    """What the catalog has, as the copy needs it."""

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        """The first keys of an area that rows have after `after` and up to `upto`, in order.

        None: there are no more.
        """


class NoKeys:
    """A catalog that knows of nothing."""

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        return []


class Extra(Enum):
    """What becomes of originals that the copy has, and that neither its source has nor a copy has written."""

    KEEP = "keep"
    TRASH = "trash"


@dataclass(frozen=True)
class CopyStep:
    """What became of a page of keys in `area`, up to the key `last`.

    `extra` are those of which the target has another, newer one, which stays. `refused` says of blobs that
    cannot be copied why not.
    """

    area: str
    last: str
    copied: int = 0
    bytes: int = 0
    same: int = 0
    extra: Sequence[str] = ()
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
    written after its copy was. The name of a variant stands for its bytes. An original in the target that is
    another, and newer, is somebody's: `extra` says whether it makes room, and without a word it stays.
    """

    def __init__(
        self,
        source: CopyFrom,
        target: CopyTo,
        catalog: CatalogKeys = NoKeys(),  # noqa: B008 (it has no state)
        *,
        dry_run: bool = False,
        extra: Extra | None = None,
        clocks_differ_s: float = _CLOCKS_DIFFER_S,
    ) -> None:
        self._source = source
        self._target = target
        self._catalog = catalog
        self._dry_run = dry_run
        self._extra = extra
        self._folder = copy_folder(uuid4())
        self._clocks_differ_s = clocks_differ_s

    async def copy(
        self, area: str = "", after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[CopyStep, None]:
        """Copy what the target lacks, from behind the key `after` of `area` on; yields page by page.

        What rows have and a listing of the source left out is looked for all the same.

        Raises: BlobsUnavailable, StorageFull, RootMismatch; a copy that goes on behind the last page misses
        nothing.
        """
        for name in _AREAS[_AREAS.index(area) if area else 0 :]:
            last = after if name == area else ""
            async with aclosing(self._source.list(name, last, on_misnamed=on_misnamed)) as pages:
                async for page in pieces(pages):
                    # Not every server sorts by the whole key, so the last key is not always the largest.
                    before, last = last, max(last, page[-1])
                    yield await self._copy_page(name, page)
                    async for step in self._copy_unlisted(name, before, last, frozenset(page)):
                        yield step
            async for step in self._copy_unlisted(name, last, None, frozenset()):
                yield step

    async def _copy_unlisted(
        self, area: str, after: str, upto: str | None, listed: frozenset[str]
    ) -> AsyncIterator[CopyStep]:
        while keys := await self._catalog.keys(area, after, upto):
            if unlisted := [key for key in keys if key not in listed]:
                yield await self._copy_page(area, unlisted)
            after = keys[-1]

    async def _copy_page(self, area: str, keys: Sequence[str]) -> CopyStep:
        seen, copies = await together(self._source.stat(keys), self._target.stat(keys))
        found = [info for info in seen.values() if isinstance(info, BlobInfo)]
        newer = [info.key for info in found if self._is_newer(area, info, copies[info.key])]
        kept = [] if self._extra is Extra.TRASH else newer
        lacking = [info for info in found if not self._has_copy(area, info, copies[info.key])]
        lacking = [info for info in lacking if info.key not in kept]
        refused = {key: "it cannot be read" for key, info in seen.items() if info is Existence.UNKNOWN}
        if self._dry_run:
            written = sum(info.bytes for info in lacking)
        else:
            await set_aside(self._target, self._folder, [key for key in newer if key not in kept])
            written, not_copied = await self._copy_all(area, [info.key for info in lacking])
            refused |= not_copied
        copied = len(lacking) - sum(info.key in refused for info in lacking)
        same = len(found) - len(lacking) - len(kept)
        return CopyStep(area, keys[-1], copied, written, same, extra=kept, refused=refused)

    async def _copy_all(self, area: str, keys: Sequence[str]) -> tuple[int, Mapping[str, str]]:
        """Copy these; returns how many bytes, and of those that cannot be copied why not."""
        written, refused = 0, dict[str, str]()
        for start in range(0, len(keys), _AT_ONCE):
            group = keys[start : start + _AT_ONCE]
            done = await together(*map(self._copy_one, group))
            written += sum(size for size in done if isinstance(size, int))
            refused |= {key: why for key, why in zip(group, done, strict=True) if isinstance(why, str)}
        if area == UPLOADS:
            await CopyNotes(self._target).note(key for key in keys if key not in refused)
        return written, refused

    def _is_newer(self, area: str, info: BlobInfo, copy: BlobInfo | Existence) -> bool:
        """Whether the copy of an original is none: somebody has written another since."""
        if area != UPLOADS or not isinstance(copy, BlobInfo) or copy.bytes == info.bytes:
            return False
        return info.changed_at + self._clocks_differ_s < copy.changed_at

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


async def set_aside(target: Move, folder: str, keys: Sequence[str]) -> None:
    """Move these to that folder of the target's trash, which a purge empties once the retention is over."""
    for start in range(0, len(keys), _AT_ONCE):
        group = keys[start : start + _AT_ONCE]
        await together(*(target.move(key, trash_key(folder, key)) for key in group))


async def pieces(pages: AsyncGenerator[Sequence[str], None]) -> AsyncIterator[Sequence[str]]:
    """The keys of all pages, in pages that are small enough for one step."""
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
