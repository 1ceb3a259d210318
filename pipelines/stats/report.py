"""The storage report, as `media stats --json` prints it: its records are the source of its schema."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter

from pipelines.moments import moment
from pipelines.stats.growth import Growth, growth
from storage.blobs import Space
from storage.keys import EXTENSIONS
from storage.totals import Count, Large, Snapshot, StorageTotals, Swept, Total

DAYS = 30  # of made variants, each with its own line
_FORMATS = {extension: name for name, extension in EXTENSIONS.items()}
_EPOCH = date(1970, 1, 1)

State = Literal["queued", "processing", "ready", "failed", "deleting", "deleted"]
STATES: tuple[State, ...] = get_args(State)
Time = Annotated[str, Field(description="ISO 8601, UTC")]


@dataclass(frozen=True)
class Files:
    """A number of files and their bytes."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Coded:
    """Uploads that share an error code."""

    code: str
    uploads: int


@dataclass(frozen=True)
class OriginalFormat:
    """Originals of one format."""

    format: str
    files: int
    bytes: int


@dataclass(frozen=True)
class OriginalFiles:
    """The originals of uploads that are ready or were so before, and their formats.

    Each is as large as it was when its upload became ready, and counts once for each upload that has it.
    Originals that are kept of deleted uploads, and those without an upload, are not among them.
    """

    files: int
    bytes: int
    formats: Sequence[OriginalFormat]
    uncounted: Annotated[
        int,
        Field(
            description="uploads that have never been ready: they wait, or have failed. How large their "
            "originals are, only `--scan` finds out, which counts every file (`drift.areas.uploads`)"
        ),
    ]


@dataclass(frozen=True)
class VariantFiles:
    """The current variants of one name and format."""

    name: str
    format: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Day:
    """The current variants that were made on one day (UTC)."""

    day: str
    files: int
    bytes: int


@dataclass(frozen=True)
class QueueDepth:
    """What waits in Redis: events on the stream, seconds since the oldest came, jobs that are due.

    And how many workers live, healthy or not.
    """

    depth: int
    oldest_seconds: int | None
    jobs: int
    workers: int


@dataclass(frozen=True)
class Owner:
    """What the pictures of one owner cost in the last 24 hours, this hour included.

    `owner` is what their events name, else the first folder of their originals; empty: neither.
    """

    owner: str
    cpu_seconds: float
    uploads: Annotated[
        int,
        Field(description="that became ready or failed, without those that were ready and are made again"),
    ]
    bytes: Annotated[int, Field(description="of originals that were read")]


@dataclass(frozen=True)
class Sweep:
    """The last sweep: when, the name of its plan, why it was stopped or when it was carried out.

    `done` says how many of each kind were dealt with then; `wrong_totals`, how many totals of the catalog
    were not what the sweep counted (null: it did not count).
    """

    time: Time
    plan: str
    stopped: str | None
    applied: Time | None
    done: Mapping[str, int]
    wrong_totals: int | None


@dataclass(frozen=True)
class DriftReport:
    """Catalog against disk: files below `variants/`, rows about variants, and what does not fit, by class.

    `origin`: the last sweep, or `--scan`, which alone knows `areas`, the files of each folder.
    """

    origin: Literal["sweep", "scan"]
    time: Time
    disk: Count
    catalog: Count
    findings: Mapping[str, Count]
    areas: Mapping[str, Count] | None


@dataclass(frozen=True)
class Past:
    """The first totals of one day (UTC); `bytes` are those of all files together."""

    day: str
    time: Time
    uploads: int
    ready: int
    failed: int
    originals: Files
    variants: Files
    superseded: Files
    bytes: int
    free_bytes: int | None


@dataclass(frozen=True)
class StorageReport:
    """What `media stats --json` prints. Sizes are in bytes; null is what is not known."""

    time: Time
    uploads: Annotated[Mapping[State, int], Field(description="how many uploads stand where")]
    failures: Annotated[
        Sequence[Coded], Field(description="failed uploads by error code, the most frequent first")
    ]
    retrying: Annotated[
        Sequence[Coded], Field(description="uploads that wait for another try, by what stopped the last")
    ]
    dead_letters: Annotated[int, Field(description="events that were refused in the last 30 days")]
    originals: OriginalFiles
    variants: Annotated[Sequence[VariantFiles], Field(description="the smallest sort first")]
    superseded: Annotated[Files, Field(description="older variants that are still served")]
    bytes: Annotated[int, Field(description="originals, variants and superseded variants together")]
    proportion: Annotated[
        float | None,
        Field(description="bytes of all variants, the superseded too, for each byte of originals"),
    ]
    days: Annotated[
        Sequence[Day], Field(description=f"the last {DAYS} days on which variants were made, oldest first")
    ]
    largest: Annotated[
        Sequence[Large], Field(description="the uploads with the largest originals, largest first")
    ]
    owners: Annotated[
        Sequence[Owner],
        Field(description="the owners whose pictures took most CPU time lately, the dearest first"),
    ]
    queue: Annotated[QueueDepth | None, Field(description="null: Redis did not answer")]
    sweep: Annotated[Sweep | None, Field(description="null: there was none yet")]
    trash: Annotated[
        Count | None, Field(description="files below `trash/`, as of the last sweep or `--scan`")
    ]
    drift: Annotated[DriftReport | None, Field(description="null: there was no sweep yet, and no `--scan`")]
    space: Annotated[Space | None, Field(description="room on the storage; null: it did not answer")]
    growth: Growth
    history: Annotated[
        Sequence[Past] | None, Field(description="a snapshot a day, oldest first; null without `--history`")
    ]


def report(
    totals: StorageTotals,
    *,
    queue: QueueDepth | None = None,
    space: Space | None = None,
    drift: DriftReport | None = None,
    history: bool = False,
) -> StorageReport:
    """The whole document; `drift` is that of a scan, where there was one."""
    now_ms = time.time_ns() // 1_000_000
    made = [totals.count(what) for what in ("original", "variant", "superseded")]
    originals, variants, superseded = made
    states = totals.grouped("upload", lambda total: total.name)
    uploads = {state: states[state].count if state in states else 0 for state in STATES}
    swept = totals.sweep
    planned = swept if swept and swept.plan else None
    variant_bytes = variants.bytes + superseded.bytes
    stored = sum(amount.bytes for amount in made)
    return StorageReport(
        time=moment(now_ms),
        uploads=uploads,
        failures=_coded(totals, {"failed"}),
        retrying=_coded(totals, {"queued", "processing"}),
        dead_letters=totals.count("dead_letter").count,
        originals=OriginalFiles(
            originals.count, originals.bytes, _formats(totals), _uncounted(uploads, originals.count)
        ),
        variants=_variants(totals),
        superseded=Files(superseded.count, superseded.bytes),
        bytes=stored,
        proportion=round(variant_bytes / originals.bytes, 4) if originals.bytes else None,
        days=_days(totals),
        largest=totals.largest,
        owners=[Owner(one.owner, one.cpu_ms / 1000, one.uploads, one.bytes) for one in totals.owners],
        queue=queue,
        sweep=_sweep(swept) if swept else None,
        trash=drift.areas["trash"] if drift and drift.areas else planned.trash if planned else None,
        drift=drift or (_drift(planned) if planned else None),
        space=space,
        growth=growth(totals.snapshots, stored, space.free_bytes if space else None, now_ms),
        history=[_past(snapshot) for snapshot in totals.snapshots] if history else None,
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the document, which holds nothing else."""
    schema = TypeAdapter(StorageReport).json_schema(mode="serialization")
    for described in (schema, *schema["$defs"].values()):
        described["additionalProperties"] = False
        described["required"] = list(described["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _coded(totals: StorageTotals, states: set[str]) -> Sequence[Coded]:
    codes = totals.grouped("upload", lambda total: total.detail if total.name in states else "")
    found = [Coded(code, amount.count) for code, amount in codes.items() if code and amount.count]
    return sorted(found, key=lambda coded: (-coded.uploads, coded.code))


def _formats(totals: StorageTotals) -> Sequence[OriginalFormat]:
    formats = totals.grouped("original", lambda total: total.name)
    found = [OriginalFormat(name, amount.count, amount.bytes) for name, amount in formats.items()]
    return sorted(found, key=lambda one: -one.bytes)


def _uncounted(uploads: Mapping[State, int], counted: int) -> int:
    """Uploads without an original that counts; a tombstone has none, and wrong totals may count too many."""
    return max(0, sum(uploads.values()) - uploads["deleted"] - counted)


def _variants(totals: StorageTotals) -> Sequence[VariantFiles]:
    def sort(total: Total) -> tuple[str, str]:
        return total.name, _FORMATS.get(total.detail, total.detail)

    sorts = totals.grouped("variant", sort)
    found = [
        VariantFiles(name, format_, amount.count, amount.bytes) for (name, format_), amount in sorts.items()
    ]
    return sorted(found, key=lambda one: one.bytes)


def _days(totals: StorageTotals) -> Sequence[Day]:
    days = sorted(totals.grouped("variant", lambda total: total.day).items())
    return [Day(_day(day), amount.count, amount.bytes) for day, amount in days[-DAYS:]]


def _sweep(swept: Swept) -> Sweep:
    return Sweep(
        time=moment(swept.time_ms),
        plan=swept.plan,
        stopped=swept.stopped,
        applied=None if swept.applied_ms is None else moment(swept.applied_ms),
        done=swept.done,
        wrong_totals=swept.wrong_totals,
    )


def _drift(swept: Swept) -> DriftReport:
    return DriftReport("sweep", moment(swept.time_ms), swept.files, swept.rows, swept.findings, None)


def _past(snapshot: Snapshot) -> Past:
    return Past(
        day=_day(snapshot.day),
        time=moment(snapshot.time_ms),
        uploads=snapshot.uploads,
        ready=snapshot.ready,
        failed=snapshot.failed,
        originals=Files(snapshot.originals, snapshot.original_bytes),
        variants=Files(snapshot.variants, snapshot.variant_bytes),
        superseded=Files(snapshot.superseded, snapshot.superseded_bytes),
        bytes=snapshot.bytes,
        free_bytes=snapshot.free_bytes,
    )


def _day(number: int) -> str:
    return (_EPOCH + timedelta(days=number)).isoformat()
