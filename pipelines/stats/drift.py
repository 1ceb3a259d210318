"""Drift: catalog against disk, found by comparing every file and every row, with nothing touched."""

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pipelines.originals import announced_otherwise
from pipelines.sweep.ages import Ages
from pipelines.sweep.findings import Kind, classify
from storage.blobs import BlobInfo, Existence, Inspect, Stat, list_infos
from storage.catalog import Catalog
from storage.catalog.sweeps import VariantRow
from storage.keys import STAGING, TRASH, UNFINISHED, UPLOADS, VARIANTS
from storage.totals import Count

_PAGE = 5000  # rows
_ROWS = "rows"
YOUNG = "young"  # a file without a row that a writer may still commit
SIZE_MISMATCH = "size_mismatch"  # a file that is not as large as its row says
UNANNOUNCED = "unannounced"  # an original that no upload has
LOST = "lost"  # an upload whose original is gone
MISNAMED = "misnamed"  # files and folders with names that no key can have
CLASSES = (*(kind.value for kind in Kind), YOUNG, SIZE_MISMATCH, UNANNOUNCED, LOST, MISNAMED)


@dataclass(frozen=True)
class Drift:
    """What a scan came to: `disk` and `catalog` are files and rows of variants, findings go by class.

    `areas` are the files of each folder of the root.
    """

    disk: Count
    catalog: Count
    findings: Mapping[str, Count]
    areas: Mapping[str, Count]


async def scan(
    catalog: Catalog, blobs: Inspect, ages: Ages, seen: Callable[[], object] = lambda: None
) -> Drift:
    """Compare every file and every row; `seen` is called for each key of a variant or an original.

    Memory does not grow with their number. Raises: StorageError when a listing ends in an error.
    """
    counts = _Counts()

    def misnamed(_path: str) -> None:
        counts.add(MISNAMED, 0)

    variants = list_infos(blobs, VARIANTS, passed_over=misnamed)
    async for key, file, row in _side_by_side(variants, _held(catalog)):
        if file is not None:
            counts.add(VARIANTS, file.bytes)
        if row is not None:
            counts.add(_ROWS, row.bytes)
        for name, size in _classified(file, row, ages):
            if name != Kind.MISSING or await _is_missing(key, catalog, blobs):
                counts.add(name, size)
        seen()
    originals = list_infos(blobs, UPLOADS, passed_over=misnamed)
    async for _, original, source in _side_by_side(originals, catalog.sources.all()):
        if original is not None:
            counts.add(UPLOADS, original.bytes)
            if source is None and not await announced_otherwise([original], catalog.sources, blobs):
                counts.add(UNANNOUNCED, original.bytes)
        elif source is not None and source.needed and await _is_gone(source.key, blobs):
            counts.add(LOST, source.bytes)
        seen()
    for place in UNFINISHED:
        async for unfinished in list_infos(blobs, place):
            counts.add(STAGING, unfinished.bytes)
            if unfinished.changed_at < ages.orphan_before:
                counts.add(Kind.LEFTOVER, unfinished.bytes)
    async for thrown_away in list_infos(blobs, TRASH):
        counts.add(TRASH, thrown_away.bytes)
    areas = {name: counts[name] for name in (UPLOADS, VARIANTS, TRASH, STAGING)}
    return Drift(counts[VARIANTS], counts[_ROWS], {name: counts[name] for name in CLASSES}, areas)


class _Counts:
    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)

    def add(self, name: str, size: int) -> None:
        """One more, of `size` bytes."""
        self._counts[name] += 1
        self._bytes[name] += size

    def __getitem__(self, name: str) -> Count:
        return Count(self._counts[name], self._bytes[name])


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


F = TypeVar("F", bound=_Keyed)
R = TypeVar("R", bound=_Keyed)


async def _side_by_side(
    files: AsyncGenerator[F, None], rows: AsyncGenerator[R, None]
) -> AsyncIterator[tuple[str, F | None, R | None]]:
    """Every key of two sequences that are in order of key, with what each has under it."""
    async with aclosing(files), aclosing(rows):
        file, row = await anext(files, None), await anext(rows, None)
        while file is not None or row is not None:
            key = min((one.key for one in (file, row) if one is not None), key=str.encode)
            here = file if file is not None and file.key == key else None
            there = row if row is not None and row.key == key else None
            yield key, here, there
            file = file if here is None else await anext(files, None)
            row = row if there is None else await anext(rows, None)


async def _held(catalog: Catalog) -> AsyncGenerator[VariantRow, None]:
    after = ""
    while page := await catalog.sweeps.rows(after, _PAGE):
        for row in page:
            yield row
        after = page[-1].key


def _classified(file: BlobInfo | None, row: VariantRow | None, ages: Ages) -> Iterator[tuple[str, int]]:
    if row is None:
        assert file is not None
        finding = classify(file, ages)
        yield (finding.kind if finding else YOUNG), file.bytes
        return
    if row.superseded_ms is not None and row.superseded_ms < ages.retired_before_ms:
        yield Kind.RETIRED, row.bytes
    elif file is None:
        yield Kind.MISSING, row.bytes
    if file is not None and file.bytes != row.bytes:
        yield SIZE_MISMATCH, file.bytes


async def _is_missing(key: str, catalog: Catalog, blobs: Stat) -> bool:
    """The file is surely not there, and the row still is."""
    return await _is_gone(key, blobs) and key in await catalog.sweeps.find_rows([key])


async def _is_gone(key: str, blobs: Stat) -> bool:
    return (await blobs.stat([key]))[key] is Existence.MISSING
