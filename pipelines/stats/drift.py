"""Drift: catalog against disk, found by comparing every file and every row, with nothing touched."""

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from pipelines.moments import moment
from pipelines.originals import announced_otherwise
from pipelines.stats.report import DriftReport
from pipelines.sweep.findings import ROWS, Ages, Inspection, Kind, compare, count_trash, leftovers, retired
from storage.blobs import BlobInfo, Existence, Inspect, Stat
from storage.catalog.clock import now_ms
from storage.catalog.opening import Catalog
from storage.catalog.sources import Announced
from storage.keys import STAGING, TRASH, UPLOADS, VARIANTS
from storage.totals import Count

_NOTHING = Count()
_GROUP = 500  # originals that are looked up at once
UNANNOUNCED = "unannounced"  # an original that no upload has
LOST = "lost"  # an upload whose original is gone
ORIGINAL_MISMATCH = "original_mismatch"  # an original that is not as large as its ready upload says
MISNAMED = "misnamed"  # files and folders with names that no key can have
CLASSES = (*(kind.value for kind in Kind), UNANNOUNCED, LOST, ORIGINAL_MISMATCH, MISNAMED)


async def scan(
    catalog: Catalog, blobs: Inspect, ages: Ages, seen: Callable[[int], object] = lambda _: None
) -> DriftReport:
    """Compare every file and every row; `seen` is called with the number of variants and originals met.

    Memory does not grow with their number. Raises: StorageError when a listing ends in an error.
    """
    counts = defaultdict[str, Count](Count)

    def add(name: str, more: Count) -> None:
        counts[name] = Count(counts[name].count + more.count, counts[name].bytes + more.bytes)

    misnamed = set[str]()  # a listing that begins again behind a key may meet one again
    inspection = Inspection(blobs, catalog.sweeps, ages)
    for step_of in (partial(compare, fully=True, on_misnamed=misnamed.add), retired, leftovers, count_trash):
        after: str | None = ""
        while after is not None:
            step = await step_of(after, inspection)
            for name, count in step.counts():
                add(name, count)
            seen(step.seen.get(VARIANTS, _NOTHING).count)
            after = step.after
    originals = blobs.list_infos(UPLOADS, on_misnamed=misnamed.add)
    unmatched: list[BlobInfo] = []
    suspects: list[BlobInfo] = []
    async for original, source in _side_by_side(originals, catalog.sources.all()):
        if original is not None:
            add(UPLOADS, Count(1, original.bytes))
            if source is None:
                unmatched.append(original)
            elif source.needed and source.bytes not in (0, original.bytes):
                suspects.append(original)
        elif source is not None and source.needed and await _is_gone(source.key, blobs):
            add(LOST, Count(1, source.bytes))
        if len(unmatched) == _GROUP:
            add(UNANNOUNCED, await _unannounced(unmatched, catalog, blobs))
            unmatched.clear()
        if len(suspects) == _GROUP:
            add(ORIGINAL_MISMATCH, await _mismatched(suspects, catalog, blobs))
            suspects.clear()
        seen(1)
    add(UNANNOUNCED, await _unannounced(unmatched, catalog, blobs))
    add(ORIGINAL_MISMATCH, await _mismatched(suspects, catalog, blobs))
    add(MISNAMED, Count(len(misnamed)))
    areas = {name: counts[name] for name in (UPLOADS, VARIANTS, TRASH, STAGING)}
    findings = {name: counts[name] for name in CLASSES}
    return DriftReport("scan", moment(now_ms()), counts[VARIANTS], counts[ROWS], findings, areas)


async def _unannounced(originals: Sequence[BlobInfo], catalog: Catalog, blobs: Stat) -> Count:
    """Those of `originals` that no upload has: they are looked up, for not every server lists in order."""
    known = await catalog.sources.known([one.key for one in originals]) if originals else frozenset[str]()
    unknown = [one for one in originals if one.key not in known]
    known |= await announced_otherwise(unknown, catalog.sources, blobs)
    sizes = [one.bytes for one in unknown if one.key not in known]
    return Count(len(sizes), sum(sizes))


async def _mismatched(originals: Sequence[BlobInfo], catalog: Catalog, blobs: Stat) -> Count:
    """Those of `originals` whose uploads are ready, and were made of others: files first, for rows follow."""
    seen = await blobs.stat([one.key for one in originals]) if originals else {}
    expected = await catalog.sources.expected(seen) if seen else {}
    sizes = [
        info.bytes
        for key, info in seen.items()
        if isinstance(info, BlobInfo) and key in expected and not expected[key].fits(info.bytes)
    ]
    return Count(len(sizes), sum(sizes))


async def _side_by_side(
    files: AsyncGenerator[BlobInfo, None], rows: AsyncGenerator[Announced, None]
) -> AsyncIterator[tuple[BlobInfo | None, Announced | None]]:
    """Each key of two sequences that are in order of key: what has it in either.

    Where the files are out of order, some keys come twice: once of the file, once of the row.
    """
    async with aclosing(files), aclosing(rows):
        file, row = await anext(files, None), await anext(rows, None)
        while file is not None or row is not None:
            key = min((one.key for one in (file, row) if one is not None), key=str.encode)
            here = file if file is not None and file.key == key else None
            there = row if row is not None and row.key == key else None
            yield here, there
            file = file if here is None else await anext(files, None)
            row = row if there is None else await anext(rows, None)


async def _is_gone(key: str, blobs: Stat) -> bool:
    return (await blobs.stat([key]))[key] is Existence.MISSING
