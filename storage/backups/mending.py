"""Torn originals give way to the version in the backup that fits; others of a wrong size are named."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from storage.backups.comparing import describe, expected_pages, is_beginning
from storage.backups.versions import Version, Versions
from storage.blobs import BlobInfo, Storage
from storage.catalog.sources import Expected, Sources
from storage.errors import BlobNotFound, BlobRefused, BlobsUnavailable, StorageError, StorageFull
from storage.keys import trash_key

_PAGE = 500
_REPLACED = "an app has written it meanwhile"
_UNSETTLED = "it was written to just now: restore again when no app writes it any more"


@dataclass(frozen=True)
class MendStep:
    """What became of a page of originals: where those are that gave way, and what is wrong with others.

    `bytes` are those of the versions that took their places.
    """

    looked: int
    mended: Mapping[str, str]
    mismatched: Mapping[str, str]
    bytes: int = 0


async def mend(
    sources: Sources,
    blobs: Storage,
    versions: Versions | None,
    announced: Mapping[str, Expected | None],
    folder: str,
    settled_before: float,
    *,
    dry_run: bool = False,
) -> AsyncGenerator[MendStep, None]:
    """Put back the version of each torn original that fits its ready uploads; yields page by page.

    Torn is one that is empty, or the beginning of that version, and has not changed since `settled_before`
    (s since 1970): an app may still write the others. It is kept in that folder of the trash. An original of
    another size that is not torn may be an app's newer one, and stays. Of those that were `announced` later
    and are expected of no size, the newest version comes back. With `dry_run` all stay.

    Raises: StorageFull, RootMismatch, BlobsUnavailable, CatalogUnavailable.
    """
    place = _Mending(blobs, folder, settled_before)
    async for page in expected_pages(sources):
        yield await _mend([_Wanted(one.key, one) for one in page], place, versions, dry_run=dry_run)
    queued = sorted(announced)
    for start in range(0, len(queued), _PAGE) if versions is not None else ():
        keys = queued[start : start + _PAGE]
        known = await sources.expected(keys)
        unread = [_Wanted(key, announced[key]) for key in keys if key not in known]
        yield await _mend(unread, place, versions, dry_run=dry_run)


@dataclass(frozen=True)
class _Mending:
    """Where originals are mended, where torn ones are kept, and since when an app may still write one."""

    blobs: Storage
    folder: str
    settled_before: float


@dataclass(frozen=True)
class _Wanted:
    """An original, and what is expected of it, if anybody knows."""

    key: str
    expected: Expected | None

    def fits(self, size: int) -> bool:
        return self.expected is None or self.expected.fits(size)


async def _mend(
    page: Sequence[_Wanted], place: _Mending, versions: Versions | None, *, dry_run: bool
) -> MendStep:
    seen = await place.blobs.stat([one.key for one in page])
    suspects = [
        (one, info)
        for one in page
        if isinstance(info := seen[one.key], BlobInfo) and not (one.expected and one.fits(info.bytes))
    ]
    kept = await versions.choose({one.key: one.fits for one, _ in suspects}) if versions and suspects else {}
    mended: dict[str, str] = {}
    mismatched: dict[str, str] = {}
    size = 0
    for one, info in suspects:
        version = kept.get(one.key)
        fitting = version if version is not None and one.fits(version.bytes) else None
        failure: str | StorageError | None = None
        if fitting is not None and await is_torn(info, place.blobs, fitting):
            if info.changed_at >= place.settled_before:
                failure = _UNSETTLED
            elif not dry_run:
                failure = await _replace(one.key, place, fitting)
            if failure is None:
                mended[one.key] = trash_key(place.folder, one.key)
                size += fitting.bytes
                continue
        if one.expected is not None:
            problem = describe(one.expected, info, fitting)
            mismatched[one.key] = problem if failure is None else f"{problem}, but {failure}"
        elif failure is not None:
            mismatched[one.key] = str(failure)
    return MendStep(len(page), mended, mismatched, size)


async def is_torn(info: BlobInfo, blobs: Storage, version: Version) -> bool:
    """Whether the original is empty, or the beginning of that version."""
    if info.bytes >= version.bytes:
        return False
    return not info.bytes or await is_beginning(info, blobs, version)


async def _replace(key: str, place: _Mending, version: Version) -> str | StorageError | None:
    """Move an original to the trash and put that version in its place; returns why that was not done.

    What an app writes meanwhile stays: the version waits in the trash, to be there at once where nothing is.

    Raises: StorageFull, RootMismatch, BlobsUnavailable.
    """
    blobs, torn, whole = place.blobs, trash_key(place.folder, key), trash_key(f"{place.folder}-whole", key)
    failure: str | StorageError = _REPLACED
    is_back = False
    try:
        async with aclosing(version.blobs.read(version.key)) as parts:
            await blobs.put(whole, parts)
        moved = await blobs.move(key, torn)
        if moved is not None and await is_torn(moved, blobs, version):  # it may have grown since
            is_back = await blobs.move(whole, key, replace=False) is not None
    except StorageFull:
        raise
    except (BlobNotFound, BlobRefused, BlobsUnavailable) as error:
        failure = error
    finally:
        if not is_back:
            await blobs.move(torn, key, replace=False)
        await blobs.delete(whole)
    return None if is_back else failure
