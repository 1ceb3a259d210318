"""Plans: what a sweep found, written down key by key before anything is touched."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

import orjson

from pipelines.sweep.breaker import Totals, implausible
from pipelines.sweep.findings import Finding, Kind
from storage.blobs import Get, List, Put
from storage.errors import BlobNotFound
from storage.keys import TRASH

_ID = re.compile(r"sweep-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
_PART = 5000  # findings in one file of a plan


class PlanBlobs(Get, Put, List, Protocol):
    """What writing and reading plans needs of a storage."""


class PlanUnknown(Exception):
    """There is no complete plan of that name."""


@dataclass(frozen=True)
class Plan:
    """The head of a plan: name, time, counts and bytes by kind, and how many files and rows were seen."""

    id: str
    made: str
    counts: dict[str, int]
    bytes: dict[str, int]
    files: int
    rows: int
    parts: int
    applied: str | None = None

    @property
    def stopped(self) -> str | None:
        """Why the breaker stops this plan; None when it does not."""
        return implausible(Totals(self.files, self.rows, self.counts.get(Kind.ORPHAN, 0)))


def new_id() -> str:
    """A name for a new plan, which tells its age."""
    return f"sweep-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"


def now() -> str:
    """This moment, as plans write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Writer:
    """Writes a plan while it is being made; until its head is there, there is no plan."""

    blobs: PlanBlobs
    id: str
    counts: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    _waiting: list[Finding] = field(default_factory=list)
    _parts: int = 0

    async def add(self, finding: Finding) -> None:
        """Write one finding down. Raises: StorageError."""
        self.counts[finding.kind.value] += 1
        self.bytes[finding.kind.value] += finding.bytes
        self._waiting.append(finding)
        if len(self._waiting) == _PART:
            await self._flush()

    async def close(self, files: int, rows: int) -> Plan:
        """Write the head, unless there is nothing to write down. Raises: StorageError."""
        await self._flush()
        plan = Plan(self.id, now(), dict(self.counts), dict(self.bytes), files, rows, self._parts)
        if plan.counts:
            await save(plan, self.blobs)
        return plan

    async def _flush(self) -> None:
        if self._waiting:
            lines = [orjson.dumps(finding) + b"\n" for finding in self._waiting]
            await self.blobs.put(_part_key(self.id, self._parts), _chunks(lines))
            self._parts += 1
            self._waiting = []


async def save(plan: Plan, blobs: Put) -> None:
    """Write a plan's head. Raises: StorageError."""
    await blobs.put(_head_key(plan.id), _chunks([orjson.dumps(plan, option=orjson.OPT_INDENT_2)]))


async def load(plan_id: str, blobs: Get) -> Plan:
    """The head of a plan. Raises: PlanUnknown, StorageError."""
    if not _ID.fullmatch(plan_id):
        raise PlanUnknown(f"{plan_id!r} is not the name of a plan.")
    try:
        return Plan(**orjson.loads(await blobs.get(_head_key(plan_id))))
    except BlobNotFound as error:
        raise PlanUnknown(f"There is no plan {plan_id}.") from error


async def findings(plan: Plan, blobs: Get) -> AsyncIterator[Sequence[Finding]]:
    """What the plan says, part by part. Raises: StorageError."""
    for part in range(plan.parts):
        lines = (await blobs.get(_part_key(plan.id, part))).splitlines()
        yield [_finding(line) for line in lines]


def quarantine_key(plan_id: str, key: str) -> str:
    """Where the plan keeps the blob that was under `key`."""
    return f"{TRASH}/{plan_id}/{key}"


def own_keys(plan: Plan) -> Sequence[str]:
    """The keys of the plan's own files, its head last."""
    return [*(_part_key(plan.id, part) for part in range(plan.parts)), _head_key(plan.id)]


def _finding(line: bytes) -> Finding:
    said = orjson.loads(line)
    return Finding(Kind(said["kind"]), said["key"], said["bytes"])


def _head_key(plan_id: str) -> str:
    return f"{TRASH}/{plan_id}/plan.json"


def _part_key(plan_id: str, part: int) -> str:
    return f"{TRASH}/{plan_id}/plan-{part:06}.jsonl"


async def _chunks(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
