"""The totals of a catalog as records, for reports that are written without a database engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

LAST_SWEEP = "sweep:last"  # the name of a row of `kv`
LARGEST = 10
DEAREST = 10  # owners


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
    """One of the largest uploads: the bytes of its original, and those of all its variants together.

    `filename` is what the app calls the file; null: it does not say.
    """

    id: str
    source: str | None
    bytes: int
    variant_bytes: int
    filename: str | None = None


@dataclass(frozen=True)
class OwnerCost:
    """What the pictures of an owner cost: CPU time of decoders, uploads that ended, bytes that were read."""

    owner: str
    cpu_ms: int
    uploads: int
    bytes: int


@dataclass(frozen=True)
class Snapshot:
    """The totals as they were at the first snapshot of one day (since 1970, UTC); `free_bytes` if known."""

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
    """What a sweep found once it had compared everything: the drift between catalog and disk.

    `files` is what lies below `variants/`, `rows` is what the catalog holds there; `findings` says where
    they differ, by kind (orphan, missing, outdated, leftover, retired, unknown; a kind of which there is
    none is left out). `trash` is all of `trash/`, plans included.
    """

    plan: str
    time_ms: int
    files: Count
    rows: Count
    findings: Mapping[str, Count]
    trash: Count
    stopped: str | None = None  # why the breaker stopped it
    stops: int = 0  # how many sweeps in a row were stopped, this one included
    applied_ms: int | None = None  # when the plan was applied
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
    owners: Sequence[OwnerCost] = ()  # the dearest of the last 24 hours

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
