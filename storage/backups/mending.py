"""Torn originals give way to the version in the backup that fits; others of a wrong size are named."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from storage.backups.comparing import describe, expected_pages, is_beginning
from storage.backups.versions import Version, Versions
from storage.blobs import BlobInfo, Storage
from storage.catalog.sources import Expected, Sources
from storage.errors import (
    BlobNotFound,
    BlobPinned,
    BlobRefused,
    BlobsUnavailable,
    KeyRefused,
    RootMismatch,
    StorageError,
    StorageFull,
)
from storage.keys import trash_key

_PAGE = 500
_REPLACED = "it was replaced just now"


@dataclass(frozen=True)
class MendStep:
    """What became of a page of originals: where those are that gave way, and what is wrong with others."""

    looked: int
    mended: Mapping[str, str]
    mismatched: Mapping[str, str]


async def mend(
    sources: Sources,
    blobs: Storage,
    versions: Versions | None,
    announced: frozenset[str],
    folder: str,
    *,
    dry_run: bool = False,
) -> AsyncGenerator[MendStep, None]:
    """Put back the version of each torn original that fits its ready uploads; yields page by page.

    Torn is one that is empty, or the beginning of that version. It is kept in that folder of the trash. An
    original of another size that is not torn may be an app's newer one, and stays. Of those that were
    `announced`, whose size nobody knows, the newest version comes back. With `dry_run` all stay.

    Raises: StorageFull, RootMismatch, BlobsUnavailable, CatalogUnavailable.
    """
    async for page in expected_pages(sources):
        yield await _mend([_Wanted(one.key, one) for one in page], blobs, versions, folder, dry_run=dry_run)
    queued = sorted(announced)
    for start in range(0, len(queued), _PAGE) if versions is not None else ():
        keys = queued[start : start + _PAGE]
        known = await sources.expected(keys)
        unread = [_Wanted(key) for key in keys if key not in known]
        yield await _mend(unread, blobs, versions, folder, dry_run=dry_run)


@dataclass(frozen=True)
class _Wanted:
    """An original, and what is expected of it, if anybody knows."""

    key: str
    expected: Expected | None = None

    def fits(self, size: int) -> bool:
        return self.expected is None or self.expected.fits(size)


async def _mend(
    page: Sequence[_Wanted], blobs: Storage, versions: Versions | None, folder: str, *, dry_run: bool
) -> MendStep:
    seen = await blobs.stat([one.key for one in page])
    suspects = [
        (one, info)
        for one in page
        if isinstance(info := seen[one.key], BlobInfo) and not (one.expected and one.fits(info.bytes))
    ]
    kept = await versions.choose({one.key: one.fits for one, _ in suspects}) if versions and suspects else {}
    mended: dict[str, str] = {}
    mismatched: dict[str, str] = {}
    for one, info in suspects:
        version = kept.get(one.key)
        fitting = version if version is not None and one.fits(version.bytes) else None
        failure = None
        if fitting is not None and await _is_torn(info, blobs, fitting):
            to = trash_key(folder, one.key)
            failure = None if dry_run else await _replace(info, blobs, fitting, to)
            if failure is None:
                mended[one.key] = to
                continue
        if one.expected is not None:
            problem = describe(one.expected, info, fitting)
            mismatched[one.key] = problem if failure is None else f"{problem}, but {failure}"
        elif failure is not None:
            mismatched[one.key] = str(failure)
    return MendStep(len(page), mended, mismatched)


async def _is_torn(info: BlobInfo, blobs: Storage, version: Version) -> bool:
    if info.bytes >= version.bytes:
        return False
    return not info.bytes or await is_beginning(info, blobs, version)


async def _replace(info: BlobInfo, blobs: Storage, version: Version, to: str) -> str | StorageError | None:
    """Move an original to the trash and put that version in its place; returns why that was not done.

    Raises: StorageFull, RootMismatch.
    """
    try:
        moved = await blobs.move(info.key, to)
    except (BlobRefused, BlobPinned, KeyRefused, BlobsUnavailable) as error:
        return error
    if moved is None or not moved.is_same_file(info):
        await blobs.move(to, info.key, replace=False)
        return _REPLACED
    try:
        async with aclosing(version.blobs.read(version.key)) as parts:
            await blobs.put(info.key, parts)
    except (StorageFull, RootMismatch):
        await blobs.move(to, info.key, replace=False)
        raise
    except (BlobNotFound, BlobRefused, BlobsUnavailable) as error:
        await blobs.move(to, info.key, replace=False)
        return error
    return None
