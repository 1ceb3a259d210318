"""Originals come back from a backup: those that the catalog needs and the storage has lost."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from storage.blobs import BlobInfo, Existence, Storage
from storage.blobs.copying import CopyStep
from storage.catalog.opening import Catalog
from storage.catalog.sources import Announced
from storage.errors import (
    BlobNotFound,
    BlobRefused,
    BlobsUnavailable,
    RootMismatch,
    StorageError,
    StorageFull,
)
from storage.keys import UPLOADS
from storage.tasks import together

_PAGE = 500
_AT_ONCE = 8  # originals that are copied at the same time
_SAMPLE = 1000  # originals that are looked for in a storage that says not whose it is
_LEAST_THERE, _MOST_OTHERS = 0.5, 0.05


async def fits(catalog: Catalog, blobs: Storage, files: Storage | None, place: str) -> None:
    """Raises: RootMismatch where the files there, or beside the copy, are not those of this catalog."""
    totals = await catalog.reports.totals()
    stride = max(1, totals.count("original").count // _SAMPLE)
    there = other = looked = 0
    async for group in _groups(catalog, stride):
        sizes = {one.key: one.bytes for one in group}
        found = await _found(list(sizes), blobs, files)
        looked += len(sizes)
        there += sum(found[key] == size for key, size in sizes.items())
        other += sum(found[key] not in (None, size) for key, size in sizes.items())
    if looked and (there < _LEAST_THERE * looked or other > _MOST_OTHERS * looked):
        raise RootMismatch(
            f"The files of {place} do not fit the copy: of {looked} originals that were looked for there and "
            f"in the backup {there} are there, and {other} of another size. Is MEDIA_STORAGE_URL right?"
        )


async def _groups(catalog: Catalog, stride: int) -> AsyncIterator[Sequence[Announced]]:
    group: list[Announced] = []
    number = 0
    async with aclosing(catalog.sources.all()) as announced:
        async for one in announced:
            if not one.needed or not one.bytes:
                continue
            number += 1
            if number % stride == 0:
                group.append(one)
            if len(group) == _PAGE:
                yield group
                group = []
    if group:
        yield group


async def _found(keys: Sequence[str], blobs: Storage, files: Storage | None) -> Mapping[str, int | None]:
    """The size of what lies under each key, in the storage or else in the backup."""
    found = dict(await blobs.stat(keys))
    if files is not None:
        found |= await files.stat([key for key in keys if not isinstance(found[key], BlobInfo)])
    return {key: info.bytes if isinstance(info, BlobInfo) else None for key, info in found.items()}


async def give_back(
    catalog: Catalog, blobs: Storage, files: Storage, gone: frozenset[str], made_ms: int
) -> AsyncGenerator[CopyStep, None]:
    """Give the storage each original that it lacks and the catalog needs; yields step by step.

    Also those that the catalog does not know, if they were written after it was copied at `made_ms`; none of
    those that are `gone`. Nothing is replaced.

    Raises: StorageFull, RootMismatch, BlobsUnavailable.
    """
    page: list[str] = []
    async with aclosing(files.list(UPLOADS)) as pages:
        async for found in pages:
            page += found
            while len(page) >= _PAGE:
                yield await _give_back(catalog, blobs, files, page[:_PAGE], gone, made_ms)
                page = page[_PAGE:]
    if page:
        yield await _give_back(catalog, blobs, files, page, gone, made_ms)


async def _give_back(
    catalog: Catalog, blobs: Storage, files: Storage, keys: Sequence[str], gone: frozenset[str], made_ms: int
) -> CopyStep:
    there = await blobs.stat(keys)
    missing = [key for key in keys if there[key] is Existence.MISSING and key not in gone]
    known, needed = await catalog.sources.known(missing), await catalog.sources.needed(missing)
    kept = await files.stat([key for key in missing if key in needed or key not in known])
    wanted = [key for key, info in kept.items() if key in needed or _is_newer(info, made_ms)]
    sizes: dict[str, int] = {}
    refused: dict[str, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        group = wanted[start : start + _AT_ONCE]
        for key, done in zip(
            group, await together(*(_copy(key, blobs, files) for key in group)), strict=True
        ):
            if isinstance(done, int):
                sizes[key] = done
            else:
                refused[key] = str(done)
    return CopyStep(
        UPLOADS, keys[-1], len(sizes), sum(sizes.values()), len(keys) - len(missing), refused=refused
    )


def _is_newer(info: BlobInfo | Existence, made_ms: int) -> bool:
    return isinstance(info, BlobInfo) and info.written_ns > made_ms * 1_000_000


async def _copy(key: str, blobs: Storage, files: Storage) -> int | StorageError:
    """Copy one original; returns its bytes, or why it was not copied. Raises: StorageFull, RootMismatch."""
    try:
        async with aclosing(files.read(key)) as parts:
            return await blobs.put(key, parts)
    except (StorageFull, RootMismatch):
        raise
    except (BlobNotFound, BlobRefused, BlobsUnavailable) as error:
        return error
