"""The catalog's totals, read straight from its file: a report must come at once, without the engine."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import orjson

from storage.errors import CatalogUnavailable, NoCatalog
from storage.paths import has_catalog
from storage.schemas import is_obsolete
from storage.threads import in_thread

LAST_SWEEP = "sweep:last"  # the name of a row of `kv`
LARGEST = 10
_PATIENCE_S = 10.0

_HAS_SCHEMA = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
_TOTALS = "SELECT what, name, detail, day, files, bytes FROM totals WHERE files != 0 OR bytes != 0"
# A claim writes no totals: they know the waiting, and those in work are few, and counted.
_WAITING = "waiting"
_IN_WORK = """
    SELECT coalesce(error_code, ''), count(*) FROM uploads WHERE state = 'processing' GROUP BY 1
"""
_LARGEST = """
    SELECT id, source, bytes,
        (SELECT coalesce(sum(variants.bytes), 0) FROM variants WHERE upload_id = uploads.id)
    FROM uploads WHERE bytes IS NOT NULL ORDER BY bytes DESC LIMIT ?
"""
_SNAPSHOTS = """
    SELECT day, time_ms, uploads, ready, failed, originals, original_bytes, variants, variant_bytes,
        superseded, superseded_bytes, free_bytes
    FROM snapshots ORDER BY day
"""


@dataclass(frozen=True)
class Total:
    """How many rows count under `what`, `name`, `detail` and `day` (since 1970), and their bytes."""

    what: str
    name: str
    detail: str
    day: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Large:
    """One of the largest uploads: the bytes of its original, and those of all its variants together."""

    id: str
    source: str | None
    bytes: int
    variant_bytes: int


@dataclass(frozen=True)
class Snapshot:
    """The totals as they were at the first look of one day (since 1970, UTC); `free_bytes` if known."""

    day: int
    time_ms: int
    uploads: int
    ready: int
    failed: int
    originals: int
    original_bytes: int
    variants: int
    variant_bytes: int
    superseded: int
    superseded_bytes: int
    free_bytes: int | None

    @property
    def bytes(self) -> int:
        """All that uploads take: originals, variants, and superseded variants."""
        return self.original_bytes + self.variant_bytes + self.superseded_bytes


@dataclass(frozen=True)
class Count:
    """A number of files (or rows) and their bytes."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Swept:
    """What a sweep found when it had looked at everything: the drift between catalog and disk.

    `files` is what lies below `variants/`, `rows` is what the catalog holds there; `findings` says where
    they differ, by kind (orphan, missing, leftover, retired, unknown; a kind of which there is none is
    left out). `trash` is all of `trash/`, plans included.
    """

    plan: str
    time_ms: int
    files: Count
    rows: Count
    findings: Mapping[str, Count]
    trash: Count
    stopped: str | None = None  # why the breaker stopped it
    stops: int = 0  # how many sweeps in a row were stopped, this one included
    applied_ms: int | None = None  # when the plan was carried out
    done: Mapping[str, int] = field(default_factory=dict)  # how many of each kind were dealt with then
    wrong_totals: int | None = None  # how many totals were not what it counted; None: it did not count

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The same out of its JSON."""
        counts = {name: Count(**value[name]) for name in ("files", "rows", "trash")}
        findings = {kind: Count(**one) for kind, one in value["findings"].items()}
        return cls(**{**value, **counts, "findings": findings})


@dataclass(frozen=True)
class StorageTotals:
    """One moment of the catalog, in totals."""

    totals: Sequence[Total]
    largest: Sequence[Large]
    snapshots: Sequence[Snapshot]
    sweep: Swept | None = None

    def of(self, what: str) -> Sequence[Total]:
        """The totals of one kind of row."""
        return [total for total in self.totals if total.what == what]

    def count(self, what: str) -> Count:
        """All rows of one kind."""
        return added(self.of(what))

    def grouped(self, what: str, by: Callable[[Total], Any]) -> dict[Any, Count]:
        """The rows of one kind, by whatever is asked."""
        groups: dict[Any, list[Total]] = {}
        for total in self.of(what):
            groups.setdefault(by(total), []).append(total)
        return {name: added(totals) for name, totals in groups.items()}


def added(totals: Sequence[Total]) -> Count:
    """Totals taken together."""
    return Count(sum(total.files for total in totals), sum(total.bytes for total in totals))


async def read_totals(path: Path, *, largest: int = LARGEST) -> StorageTotals | None:
    """What the catalog in the file `path` says now; None: it is no catalog, or a development version's.

    It is never written to. Raises: NoCatalog, CatalogUnavailable.
    """
    return await in_thread(_read, path, largest)


def _read(path: Path, largest: int) -> StorageTotals | None:
    with _opened(path) as connection:
        if not connection.execute(_HAS_SCHEMA).fetchone():
            return None
        schema = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if schema is None or is_obsolete(schema[0]):
            return None
        connection.execute("BEGIN")  # everything in one moment of the catalog
        sweep = connection.execute("SELECT value FROM kv WHERE name = ?", [LAST_SWEEP]).fetchone()
        return StorageTotals(
            totals=_split(
                [Total(*row) for row in connection.execute(_TOTALS)],
                dict(connection.execute(_IN_WORK).fetchall()),
            ),
            largest=[Large(*row) for row in connection.execute(_LARGEST, [largest])],
            snapshots=[Snapshot(*row) for row in connection.execute(_SNAPSHOTS)],
            sweep=Swept.from_json(orjson.loads(sweep[0])) if sweep else None,
        )


def _split(totals: Sequence[Total], in_work: Mapping[str, int]) -> Sequence[Total]:
    """The totals with "waiting" split into queued and processing, which `in_work` counts by error code."""
    waiting = [total for total in totals if (total.what, total.name) == ("upload", _WAITING)]
    queued = [replace(one, name="queued", files=one.files - in_work.get(one.detail, 0)) for one in waiting]
    working = [Total("upload", "processing", code, 0, count, 0) for code, count in in_work.items()]
    rest = [total for total in totals if total not in waiting]
    return [*rest, *(total for total in (*queued, *working) if total.files)]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if not has_catalog(path):
        raise NoCatalog(path)
    try:
        # "rw" makes no file, and turns into read-only where there is no right to write.
        address = f"file:{quote(str(path))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_S, isolation_level=None)) as opened:
            yield opened
    except (sqlite3.DatabaseError, OSError) as error:
        raise CatalogUnavailable(f"the catalog did not answer: {error}") from error
