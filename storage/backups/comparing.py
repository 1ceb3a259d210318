"""Originals compared with the rows of ready uploads: which are gone, or have another size."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from storage.backups.versions import Version, Versions
from storage.blobs import BlobInfo, Existence, Read, Stat
from storage.catalog.sources import Expected, Sources
from storage.errors import StorageError
from storage.threads import in_thread

_PAGE = 500
_EVENT_WAITS_MS = 15 * 60 * 1000  # at most, usually, of an original that an app has replaced


class Comparing(Read, Stat, Protocol):
    """The verbs of the storage whose originals are compared."""


async def find_differing(
    sources: Sources, blobs: Comparing, versions: Versions, now_ms: int
) -> AsyncGenerator[Mapping[str, str], None]:
    """Say of each original of ready uploads that is gone, or has another size, what is wrong; page by page.

    One that was replaced lately is no fault, as the event about it may still wait: unless it is empty, or the
    beginning of the version that fits, as a torn one is.

    Raises: CatalogUnavailable, BlobsUnavailable.
    """
    async for page in expected_pages(sources):
        seen = await blobs.stat([one.key for one in page])
        suspects = [one for one in page if not _is_fine(one, seen[one.key])]
        if not suspects:
            continue
        # An upload that was deleted or replaced meanwhile has another row by now.
        still = await sources.expected([one.key for one in suspects])
        suspects = [one for one in suspects if still.get(one.key) == one]
        kept = await versions.choose({one.key: one.fits for one in suspects})
        differing: dict[str, str] = {}
        for one in suspects:
            info, version = seen[one.key], kept.get(one.key)
            fitting = version if version is not None and one.fits(version.bytes) else None
            if not await _may_be_replaced(one, info, blobs, fitting, now_ms):
                differing[one.key] = describe(one, info, fitting)
        yield differing


async def expected_pages(sources: Sources) -> AsyncIterator[Sequence[Expected]]:
    """What is expected of all originals whose uploads are ready, page by page. Raises: CatalogUnavailable."""
    page: list[Expected] = []
    async with aclosing(sources.all_expected()) as found:
        async for one in found:
            page.append(one)
            if len(page) == _PAGE:
                yield page
                page = []
    if page:
        yield page


def _is_fine(one: Expected, info: BlobInfo | Existence) -> bool:
    """Whether it fits, or nobody can say: what cannot be read is told by whoever copies it."""
    return one.fits(info.bytes) if isinstance(info, BlobInfo) else info is Existence.UNKNOWN


async def _may_be_replaced(
    one: Expected, info: BlobInfo | Existence, blobs: Read, version: Version | None, now_ms: int
) -> bool:
    """Whether an app may have put another original there, about which an event still waits."""
    if not isinstance(info, BlobInfo) or not info.bytes:
        return False
    changed_ms = info.changed_at * 1000
    if changed_ms < max(one.changed_ms, now_ms - _EVENT_WAITS_MS):
        return False
    return not await is_beginning(info, blobs, version)


async def is_beginning(info: BlobInfo, blobs: Read, version: Version | None) -> bool:
    """Whether the original has the first bytes of that version, and no others."""
    if version is None or version.bytes < info.bytes:
        return False
    try:
        async with version.blobs.open(version.key) as source, aclosing(blobs.read(info.key)) as parts:
            offset = 0
            async for part in parts:
                if await in_thread(os.pread, source.fd, len(part), offset) != part:
                    return False
                offset += len(part)
    except StorageError:
        return False
    return True


def describe(one: Expected, info: BlobInfo | Existence, version: Version | None) -> str:
    """What is wrong with an original, and which version in the backup fits, for people."""
    found = f"it has {info.bytes} bytes" if isinstance(info, BlobInfo) else "it is gone"
    kept = (
        f"the backup has it in {version.path}" if version is not None else "the backup has none of that size"
    )
    return f"{found}, and its ready upload has {one.size}; {kept}"
