"""What a sweep finds: files and rows, both in order of key, compared stretch by stretch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum

from storage.blobs import BlobInfo, Existence, Inspect, Stat
from storage.catalog.sweep_records import SweepRecords, VariantRow
from storage.keys import STAGING, TRASH, UNFINISHED, VARIANTS, parse_variant_key
from storage.totals import Count

STRETCH = 20_000  # keys that are compared in one step
_STAT_AT_ONCE = 2_000  # blobs at once
ROWS = "rows"  # beside the folders, in what a step has seen


class Kind(StrEnum):
    """What a sweep or a scan can report of a key."""

    ORPHAN = "orphan"  # an old file that no row has
    MISSING = "missing"  # a row whose file is surely not there
    OUTDATED = "outdated"  # the same, of a superseded variant: nobody makes it again
    LEFTOVER = "leftover"  # an unfinished write that nobody finishes
    RETIRED = "retired"  # a superseded variant whose time is over
    UNKNOWN = "unknown"  # not a name of this program: reported, never touched
    YOUNG = "young"  # a file without a row that a writer may still commit
    SIZE_MISMATCH = "size_mismatch"  # a file that is not as large as its row says


_ONLY_COUNTED = (Kind.YOUNG, Kind.SIZE_MISMATCH)  # by a scan; no plan names them


@dataclass(frozen=True)
class Discrepancy:
    """One key that a sweep or a scan reports; `bytes` is the file's size, or the row's."""

    kind: Kind
    key: str
    bytes: int


@dataclass(frozen=True)
class Ages:
    """Before which moment a file is old enough (s since 1970), and a superseded row past its time (ms)."""

    orphan_before: float
    retired_before_ms: float

    @classmethod
    def at(cls, now: float, grace_s: float, retention_s: float) -> "Ages":
        """The moments as they are at `now` (s since 1970)."""
        return cls(now - grace_s, (now - retention_s) * 1000)


@dataclass(frozen=True)
class Inspection:
    """What finding needs: verbs that read files and rows and change none, and the ages that count."""

    blobs: Inspect
    sweeps: SweepRecords
    ages: Ages


@dataclass(frozen=True)
class StepResult:
    """The result of one step: findings, the key after which the next step begins (None: done), and counts.

    `seen` counts what lies in each folder, and rows. Its bytes of variants and rows are those of keys that
    were compared one by one.
    """

    findings: Sequence[Discrepancy]
    after: str | None
    seen: Mapping[str, Count] = field(default_factory=dict)

    def counts(self) -> Iterator[tuple[str, Count]]:
        """What was seen, and the findings by their kind, each with its bytes."""
        yield from self.seen.items()
        yield from ((one.kind.value, Count(1, one.bytes)) for one in self.findings)


async def compare(
    after: str,
    inspection: Inspection,
    *,
    fully: bool = False,
    on_misnamed: Callable[[str], object] = lambda _: None,
) -> StepResult:
    """Compare the next stretch of files with the rows of their keys. Raises: StorageError.

    Memory does not grow with their number. Rows are read only where there is a file without a row, or a row
    without its file; or `fully`, which finds young files and different sizes too. Files are stat'ed only
    where the listing shows that something may be wrong.
    """
    listed, upto = await _listed(after, inspection, on_misnamed, with_sizes=fully)
    rows = await inspection.sweeps.keys(after, upto, 2 * STRETCH)
    if len(rows) == 2 * STRETCH:  # the stretch has more rows than files
        upto = rows[-1]
        listed = {key: info for key, info in listed.items() if key <= upto}
    compared = sorted(listed.keys() | rows if fully else listed.keys() ^ set(rows))
    rows_of = dict(await inspection.sweeps.find_rows(compared)) if fully else {}
    doubtful = [key for key in compared if not _agree(listed.get(key), rows_of.get(key))]
    found = await stat_all(doubtful, inspection.blobs)
    for key in doubtful:
        rows_of.pop(key, None)
    rows_of |= await inspection.sweeps.find_rows(doubtful)  # those that still are; a file goes after its row
    classified = [_classify(key, found[key], rows_of.get(key), inspection.ages) for key in doubtful]
    seen = {**listed, **found}
    file_bytes = sum(info.bytes for info in seen.values() if isinstance(info, BlobInfo))
    row_bytes = sum(row.bytes for row in rows_of.values())
    return StepResult(
        [one for one in classified if one and (fully or one.kind not in _ONLY_COUNTED)],
        upto,
        {VARIANTS: Count(len(listed), file_bytes), ROWS: Count(len(rows), row_bytes)},
    )


def _agree(listed: BlobInfo | None, row: VariantRow | None) -> bool:
    return listed is not None and row is not None and listed.bytes == row.bytes


async def retired(after: str, inspection: Inspection) -> StepResult:
    """The next superseded variants whose time is over. Raises: StorageError."""
    rows = await inspection.sweeps.superseded(inspection.ages.retired_before_ms, after, STRETCH)
    findings = [Discrepancy(Kind.RETIRED, row.key, row.bytes) for row in rows]
    return StepResult(findings, rows[-1].key if len(rows) == STRETCH else None)


async def leftovers(after: str, inspection: Inspection) -> StepResult:
    """The next unfinished writes, and which of them are old enough. Raises: StorageError."""
    return await _count(STAGING, UNFINISHED, after, inspection)


async def count_trash(after: str, inspection: Inspection) -> StepResult:
    """The next files of the trash, which are only counted. Raises: StorageError."""
    return await _count(TRASH, [TRASH], after, inspection)


async def _count(area: str, folders: Sequence[str], after: str, inspection: Inspection) -> StepResult:
    findings: list[Discrepancy] = []
    count = size = 0
    for folder in folders:
        async with aclosing(inspection.blobs.list_infos(folder, after)) as files:
            async for file in files:
                if file.key <= after:
                    continue
                count, size = count + 1, size + file.bytes
                if area == STAGING and file.changed_at < inspection.ages.orphan_before:
                    findings.append(Discrepancy(Kind.LEFTOVER, file.key, file.bytes))
                if count == STRETCH:
                    return StepResult(findings, file.key, {area: Count(count, size)})
    return StepResult(findings, None, {area: Count(count, size)})


async def stat_all(keys: Sequence[str], blobs: Stat) -> Mapping[str, BlobInfo | Existence]:
    """What is known of the blobs under `keys`, however many there are. Raises: StorageError."""
    found: dict[str, BlobInfo | Existence] = {}
    for start in range(0, len(keys), _STAT_AT_ONCE):
        found |= await blobs.stat(keys[start : start + _STAT_AT_ONCE])
    return found


async def _listed(
    after: str, inspection: Inspection, on_misnamed: Callable[[str], object], *, with_sizes: bool
) -> tuple[Mapping[str, BlobInfo | None], str | None]:
    """The next files, by key, and up to which key they are all there are; None: there are no more."""
    files: dict[str, BlobInfo | None] = {}
    if with_sizes:
        async with aclosing(inspection.blobs.list_infos(VARIANTS, after, on_misnamed=on_misnamed)) as infos:
            async for info in infos:
                files[info.key] = info
                if len(files) >= STRETCH:
                    return files, info.key
        return files, None
    async with aclosing(inspection.blobs.list(VARIANTS, after, on_misnamed=on_misnamed)) as pages:
        async for page in pages:
            files |= dict.fromkeys(page)
            if len(files) >= STRETCH:
                return files, page[-1]
    return files, None


def _classify(
    key: str, found: BlobInfo | Existence, row: VariantRow | None, ages: Ages
) -> Discrepancy | None:
    """What is wrong with a key, if anything.

    Superseded rows past their time are left to `retired`, which finds them with or without a file; those of
    an upload that is being deleted, to the deletion, which removes files first.
    """
    if isinstance(found, BlobInfo):
        if row is None:
            return Discrepancy(_without_row(found, ages), key, found.bytes)
        return Discrepancy(Kind.SIZE_MISMATCH, key, found.bytes) if found.bytes != row.bytes else None
    if row is None or row.is_going or found is not Existence.MISSING:
        return None
    if row.superseded_ms is None:
        return Discrepancy(Kind.MISSING, key, row.bytes)
    is_retired = row.superseded_ms < ages.retired_before_ms
    return None if is_retired else Discrepancy(Kind.OUTDATED, key, row.bytes)


def _without_row(file: BlobInfo, ages: Ages) -> Kind:
    if parse_variant_key(file.key) is None:
        return Kind.UNKNOWN
    return Kind.ORPHAN if file.changed_at < ages.orphan_before else Kind.YOUNG
