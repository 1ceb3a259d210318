"""What a sweep finds: files and rows, both in order of key, compared stretch by stretch."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from pipelines.sweep.ages import Ages
from pipelines.sweep.sweeper import Looker
from storage.blobs import BlobInfo, Existence, Stat, list_infos
from storage.keys import TRASH, UNFINISHED, VARIANTS, parse_variant_key
from storage.totals import Count

STRETCH = 20_000  # keys that are compared in one step
_STAT_AT_ONCE = 2_000  # blobs at once
_NOTHING = Count()


class Kind(StrEnum):
    """What can be wrong with a key, or worth knowing of it."""

    ORPHAN = "orphan"  # an old file that no row holds
    MISSING = "missing"  # a row whose file is surely not there
    LEFTOVER = "leftover"  # an unfinished write that nobody finishes
    RETIRED = "retired"  # a superseded variant whose time is over
    UNKNOWN = "unknown"  # not a name that this program gives: reported, never touched


@dataclass(frozen=True)
class Discrepancy:
    """One key that a sweep has something to say about; `bytes` is the file's size, or the row's."""

    kind: Kind
    key: str
    bytes: int


@dataclass(frozen=True)
class StepResult:
    """The result of one step: findings, counts, and the key after which the next step begins (None: done).

    `surplus` is by how many bytes the files of this step exceed its rows, `trash` the files of the trash.
    """

    findings: Sequence[Discrepancy]
    after: str | None
    files: int = 0
    rows: int = 0
    surplus: int = 0
    trash: Count = _NOTHING


async def compare(after: str, looker: Looker) -> StepResult:
    """Compare the next stretch of files with the rows of their keys. Raises: StorageError.

    Memory does not grow with their number, and `stat` is called only for files without a row.
    """
    files, upto = await _files(after, looker)
    rows = await looker.sweeps.keys(after, upto, 2 * STRETCH)
    if len(rows) == 2 * STRETCH:  # the stretch holds more rows than files
        upto = rows[-1]
        files = files[: bisect_right(files, upto)]
    if files == rows:  # as it should be, and mostly is
        return StepResult([], upto, len(files), len(rows))
    there, held = set(files), set(rows)
    loose = [key for key in files if key not in held]
    absent = [key for key in rows if key not in there]
    ages = looker.ages()
    found = await stat_all(loose, looker.blobs)
    findings = [one for info in _infos(found) if (one := classify(info, ages))]
    missing, lacking = await _missing(absent, ages, looker)
    surplus = sum(info.bytes for info in _infos(found)) - lacking
    ordered = sorted([*findings, *missing], key=lambda one: one.key)
    return StepResult(ordered, upto, len(files), len(rows), surplus)


async def retired(after: str, looker: Looker) -> StepResult:
    """The next superseded variants whose time is over. Raises: StorageError."""
    before_ms = looker.ages().retired_before_ms
    rows = await looker.sweeps.superseded(before_ms, after, STRETCH)
    findings = [Discrepancy(Kind.RETIRED, row.key, row.bytes) for row in rows]
    return StepResult(findings, rows[-1].key if len(rows) == STRETCH else None)


async def leftovers(after: str, looker: Looker) -> StepResult:
    """The next unfinished writes that are old enough. Raises: StorageError."""
    ages = looker.ages()
    findings: list[Discrepancy] = []
    for place in UNFINISHED:
        async with aclosing(list_infos(looker.blobs, place, after)) as files:
            async for file in files:
                if file.key > after and file.changed_at < ages.orphan_before:
                    findings.append(Discrepancy(Kind.LEFTOVER, file.key, file.bytes))
                if len(findings) == STRETCH:
                    return StepResult(findings, file.key)
    return StepResult(findings, None)


async def thrown_away(after: str, looker: Looker) -> StepResult:
    """The next files of the trash, which are only counted. Raises: StorageError."""
    count = size = 0
    async with aclosing(list_infos(looker.blobs, TRASH, after)) as files:
        async for file in files:
            count, size = count + 1, size + file.bytes
            if count == STRETCH:
                return StepResult([], file.key, trash=Count(count, size))
    return StepResult([], None, trash=Count(count, size))


def classify(file: BlobInfo, ages: Ages) -> Discrepancy | None:
    """What there is to say about a file that no row holds, if anything."""
    if parse_variant_key(file.key) is None:
        return Discrepancy(Kind.UNKNOWN, file.key, file.bytes)
    return Discrepancy(Kind.ORPHAN, file.key, file.bytes) if file.changed_at < ages.orphan_before else None


async def stat_all(keys: Sequence[str], blobs: Stat) -> Mapping[str, BlobInfo | Existence]:
    """What is known of the blobs under `keys`, however many there are. Raises: StorageError."""
    found: dict[str, BlobInfo | Existence] = {}
    for start in range(0, len(keys), _STAT_AT_ONCE):
        found |= await blobs.stat(keys[start : start + _STAT_AT_ONCE])
    return found


async def _files(after: str, looker: Looker) -> tuple[Sequence[str], str | None]:
    """The next files, and up to which key they are all there are; None: there are no more."""
    files: list[str] = []
    async with aclosing(looker.blobs.list(VARIANTS, after)) as pages:
        async for page in pages:
            files += page
            if len(files) >= STRETCH:
                return files, files[-1]
    return files, None


async def _missing(absent: Sequence[str], ages: Ages, looker: Looker) -> tuple[Sequence[Discrepancy], int]:
    """Rows whose file is surely missing, and the bytes of all of them.

    Superseded rows past their time are left to `retired`, which finds them with or without a file.
    """
    found = await stat_all(absent, looker.blobs)
    gone = [key for key in absent if found[key] is Existence.MISSING]
    held = await looker.sweeps.find_rows(gone)  # those that still are; a file goes after its row
    findings = [
        Discrepancy(Kind.MISSING, key, row.bytes)
        for key, row in held.items()
        if row.superseded_ms is None or row.superseded_ms >= ages.retired_before_ms
    ]
    return findings, sum(row.bytes for row in held.values())


def _infos(found: Mapping[str, BlobInfo | Existence]) -> Iterator[BlobInfo]:
    return (info for info in found.values() if isinstance(info, BlobInfo))
