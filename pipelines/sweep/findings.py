"""What a sweep finds: two sorted sequences, the files and the rows, walked side by side."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from storage.blobs import BlobInfo, List
from storage.catalog.sweeps import Held, Sweeps
from storage.keys import STAGING, VARIANTS, parse_variant_key

T = TypeVar("T")


class Kind(StrEnum):
    """What can be wrong with a key, or worth knowing of it."""

    ORPHAN = "orphan"  # an old file that no row holds
    MISSING = "missing"  # a row whose file is surely not there
    LEFTOVER = "leftover"  # an unfinished write that nobody finishes
    RETIRED = "retired"  # a superseded variant whose time is over
    UNKNOWN = "unknown"  # not a name that this program gives: reported, never touched


@dataclass(frozen=True)
class Finding:
    """One key that a sweep has something to say about; `bytes` is the file's size, or the row's."""

    kind: Kind
    key: str
    bytes: int


@dataclass(frozen=True)
class Ages:
    """From which moments on (s since 1970) a file is old enough, and a superseded row past its time."""

    orphan_before: float
    retired_before_ms: float

    @classmethod
    def now(cls, grace_s: float, retention_s: float) -> "Ages":
        """The moments as they are now."""
        now = time.time()
        return cls(now - grace_s, (now - retention_s) * 1000)


@dataclass(frozen=True)
class Pair:
    """One key with its file, its row, or both."""

    key: str
    file: BlobInfo | None
    row: Held | None


async def pairs(blobs: List, sweeps: Sweeps, after: str) -> AsyncGenerator[Pair, None]:
    """Every key below `variants/` after the key `after`, with its file and its row, in order.

    Memory does not grow with their number. Raises: StorageError.
    """
    async with (
        aclosing(blobs.list(VARIANTS, after)) as files,
        aclosing(sweeps.held(after)) as rows,
    ):
        file, row = await _next(files), await _next(rows)
        while file is not None or row is not None:
            if row is None or (file is not None and file.key < row.key):
                assert file is not None
                yield Pair(file.key, file, None)
                file = await _next(files)
            elif file is None or row.key < file.key:
                yield Pair(row.key, None, row)
                row = await _next(rows)
            else:
                yield Pair(row.key, file, row)
                file, row = await _next(files), await _next(rows)


def judge(pair: Pair, ages: Ages) -> Finding | None:
    """What there is to say about a key, if anything."""
    file, row = pair.file, pair.row
    if file is not None and parse_variant_key(file.key) is None:
        return Finding(Kind.UNKNOWN, pair.key, file.bytes)
    if row is None and file is not None:
        return Finding(Kind.ORPHAN, pair.key, file.bytes) if file.changed_at < ages.orphan_before else None
    if row is None:
        return None
    if row.superseded_ms is not None and row.superseded_ms < ages.retired_before_ms:
        return Finding(Kind.RETIRED, pair.key, row.bytes)
    return Finding(Kind.MISSING, pair.key, row.bytes) if file is None else None


async def leftovers(blobs: List, ages: Ages) -> AsyncIterator[Finding]:
    """Unfinished writes that are old enough. Raises: StorageError."""
    async with aclosing(blobs.list(STAGING)) as files:
        async for file in files:
            if file.changed_at < ages.orphan_before:
                yield Finding(Kind.LEFTOVER, file.key, file.bytes)


async def _next(items: AsyncGenerator[T, None]) -> T | None:
    return await anext(items, None)
