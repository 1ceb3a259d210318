"""Originals come back from a backup: those that the catalog needs and the storage has lost."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from storage.backups.mending import is_torn
from storage.backups.versions import Version, Versions
from storage.blobs import BlobInfo, Existence, Storage
from storage.blobs.owners import backed_up, tell_how_to_mark
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
from storage.keys import UPLOADS, shown
from storage.tasks import together

_PAGE = 500
_AT_ONCE = 8  # originals that are copied at the same time
_SAMPLE = 1000  # originals that are looked for in a storage that says not whose it is
_NAMED = 5
_LEAST_THERE, _MOST_OTHERS = 0.5, 0.05


@dataclass(frozen=True)
class ReturnStep:
    """What became of a page of originals: `copied` came back, with so many `bytes`.

    `differing` were brought back, and are not as the catalog has them; `refused` says of others why they
    could not be. `unknown` counts those that came back although the catalog does not know them.
    """

    copied: int
    same: int
    differing: Mapping[str, str]
    refused: Mapping[str, str]
    unknown: int
    bytes: int = 0


@dataclass
class _Compared:
    """Originals that were looked for in a storage and in the backup: how many fit, and which differ there.

    `here` fit in the storage itself, or are torn ones that the backup mends.
    """

    looked: int = 0
    stored: int = 0
    here: int = 0
    returning: int = 0
    other: int = 0
    differing: list[str] = field(default_factory=list)  # in the backup

    @property
    def fit(self) -> bool:
        enough = self.here + self.returning >= _LEAST_THERE * self.looked
        return enough and self.other <= _MOST_OTHERS * self.looked


async def fits(
    catalog: Catalog, blobs: Storage, versions: Versions | None, place: str, *, is_marked: bool
) -> None:
    """Raises: RootMismatch where the files there, or beside the copy, are not those of this catalog.

    What the backup of this catalog has of another size speaks against no storage: apps replace originals. Nor
    does a torn original that the backup mends. A storage that no catalog has marked may be empty, but has no
    originals of its own alone: they would be adopted.
    """
    compared = await _compare(catalog, blobs, versions)
    if not compared.looked:
        return
    seen = (
        f"of {compared.looked} originals that were looked for there and in the backup "
        f"{compared.here + compared.returning} are there, and {compared.other} of another size"
    )
    way_out = (
        ""
        if is_marked
        else f" If they are its files all the same, say so: {tell_how_to_mark(catalog.id, place)}"
    )
    if not compared.fit and (compared.stored or not compared.differing):
        raise RootMismatch(
            f"The files of {place} do not fit the copy: {seen}. Is MEDIA_STORAGE_URL right?{way_out}"
        )
    if not compared.fit:
        count, named = len(compared.differing), ", ".join(map(shown, compared.differing[:_NAMED]))
        raise RootMismatch(
            f"The originals of the backup do not fit the copy: {seen.partition(', and ')[0]}, and the backup "
            f"has {count} of another size: {named}."
        )
    if not compared.here and not is_marked and (others := await _find_others(catalog, blobs, versions)):
        raise RootMismatch(
            f"The files of {place} do not fit the copy: 0 of {compared.looked} originals that were looked "
            f"for are there, and it has originals of its own: {', '.join(map(shown, others[:_NAMED]))}. "
            f"Is MEDIA_STORAGE_URL right?{way_out}"
        )


async def _compare(catalog: Catalog, blobs: Storage, versions: Versions | None) -> _Compared:
    totals = await catalog.reports.totals()
    stride = max(1, totals.count("original").count // _SAMPLE)
    is_ours = versions is not None and await versions.files.catalog_id() == backed_up(catalog.id)
    compared = _Compared()
    async for group in _groups(catalog, stride):
        sizes = {one.key: one.bytes for one in group}
        found = {
            key: one for key, one in (await blobs.stat(list(sizes))).items() if isinstance(one, BlobInfo)
        }
        same = {key for key, info in found.items() if info.bytes == sizes[key]}
        kept = await _kept({key: size for key, size in sizes.items() if key not in same}, versions)
        compared.looked += len(sizes)
        compared.stored += len(found)
        compared.here += len(same)
        for key in sizes.keys() - same:
            version = kept.get(key)
            if (info := found.get(key)) is not None:
                fitting = version if version is not None and version.bytes == sizes[key] else None
                is_mended = fitting is not None and await is_torn(info, blobs, fitting)
                compared.here += is_mended
                compared.other += not is_mended
            elif version is not None:
                is_same = version.bytes == sizes[key]
                compared.returning += is_same or is_ours
                compared.other += not (is_same or is_ours)
                compared.differing += [] if is_same else [key]
    compared.differing.sort()
    return compared


async def _find_others(catalog: Catalog, blobs: Storage, versions: Versions | None) -> Sequence[str]:
    """The first originals there; none where there is one of them that the catalog or its backup has, too."""
    first: list[str] = []
    async with aclosing(blobs.list(UPLOADS)) as pages:
        async for page in pages:
            first += page
            if len(first) >= _SAMPLE:
                break
    first = first[:_SAMPLE]
    infos = {key: one for key, one in (await blobs.stat(first)).items() if isinstance(one, BlobInfo)}
    expected = await catalog.sources.expected(infos)
    kept = await _kept({key: info.bytes for key, info in infos.items()}, versions)
    is_ours = any(
        (key in expected and expected[key].fits(info.bytes))
        or (key in kept and kept[key].bytes == info.bytes)
        for key, info in infos.items()
    )
    return [] if is_ours else first


async def _kept(sizes: Mapping[str, int], versions: Versions | None) -> dict[str, Version]:
    """The version of each of these that the backup has: of that size if it can be."""
    if versions is None or not sizes:
        return {}
    chosen = await versions.choose({key: size.__eq__ for key, size in sizes.items()})
    return {key: version for key, version in chosen.items() if version is not None}


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


async def give_back(
    catalog: Catalog,
    blobs: Storage,
    versions: Versions,
    gone: frozenset[str],
    made_ms: int,
    *,
    dry_run: bool = False,
) -> AsyncGenerator[ReturnStep, None]:
    """Give the storage each original that it lacks and the catalog needs; yields step by step.

    Of each it gets the newest version that fits the catalog, or else the newest. Also those that the catalog
    does not know, if they were written after it was copied at `made_ms`; none of those that are `gone`.
    Nothing is replaced; with `dry_run` nothing is written, and the steps are the same.

    Raises: StorageFull, RootMismatch, BlobsUnavailable.
    """
    page: list[str] = []
    async with aclosing(versions.files.list(UPLOADS)) as pages:
        async for found in pages:
            page += found
            while len(page) >= _PAGE:
                yield await _give_back(catalog, blobs, versions, page[:_PAGE], gone, made_ms, dry_run)
                page = page[_PAGE:]
    if page:
        yield await _give_back(catalog, blobs, versions, page, gone, made_ms, dry_run)


async def _give_back(
    catalog: Catalog,
    blobs: Storage,
    versions: Versions,
    keys: Sequence[str],
    gone: frozenset[str],
    made_ms: int,
    dry_run: bool,
) -> ReturnStep:
    there = await blobs.stat(keys)
    missing = [key for key in keys if there[key] is Existence.MISSING and key not in gone]
    known, needed = await catalog.sources.known(missing), await catalog.sources.needed(missing)
    expected = await catalog.sources.expected(needed)
    kept = await versions.choose(
        {
            key: expected[key].fits if key in expected else _any_size
            for key in missing
            if key in needed or key not in known
        }
    )
    refused = {
        key: "it cannot be read in the backup" for key, one in kept.items() if one is None and key in needed
    }
    wanted = [
        (key, version)
        for key, version in kept.items()
        if version is not None and (key in needed or version.written_ns > made_ms * 1_000_000)
    ]
    copied = unknown = size = 0
    same = len(keys) - len(missing)
    differing: dict[str, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        group = wanted[start : start + _AT_ONCE]
        if dry_run:
            copies: Sequence[int | StorageError] = [version.bytes for _, version in group]
        else:
            there = await blobs.stat([key for key, _ in group])  # an app may have written some meanwhile
            still = [(key, version) for key, version in group if there[key] is Existence.MISSING]
            same, group = same + len(group) - len(still), still
            copies = await together(*(_copy(key, blobs, version) for key, version in group))
        for (key, _), done in zip(group, copies, strict=True):
            if not isinstance(done, int):
                refused[key] = str(done)
                continue
            copied, size = copied + 1, size + done
            unknown += key not in known
            if key in expected and not expected[key].fits(done):
                differing[key] = (
                    f"the backup has it with {done} bytes, and its upload has {expected[key].size}"
                )
    return ReturnStep(copied, same, differing, refused, unknown, size)


def _any_size(_: int) -> bool:
    return True


async def _copy(key: str, blobs: Storage, version: Version) -> int | StorageError:
    """Copy one original; returns its bytes, or why it was not copied. Raises: StorageFull, RootMismatch."""
    try:
        async with aclosing(version.blobs.read(version.key)) as parts:
            return await blobs.put(key, parts)
    except (StorageFull, RootMismatch):
        raise
    except (BlobNotFound, BlobRefused, BlobsUnavailable) as error:
        return error
