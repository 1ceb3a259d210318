"""What a plan says, page by page and by kind, for whoever looks at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelines.sweep.findings import Discrepancy, Kind
from pipelines.sweep.plan import Plan, PlanUnknown, finding_of, is_of
from storage.blobs import Get, ReadPart
from storage.errors import BlobNotFound
from storage.keys import MAX_BYTES, plan_part_key

PARTS_FOR_A_PAGE = 4  # at most; each has up to `findings.STRETCH` findings

# Planning goes stage by stage, and each part is of one of them.
_STAGES: Mapping[Kind, int] = {
    Kind.ORPHAN: 0,
    Kind.MISSING: 0,
    Kind.OUTDATED: 0,
    Kind.UNKNOWN: 0,
    Kind.RETIRED: 1,
    Kind.LEFTOVER: 2,
}
_LONGEST = 2 * MAX_BYTES + 128  # bytes of the first line that are read: its kind stands first


class PlanReading(Get, ReadPart, Protocol):
    """What reading a part of a plan needs of a storage."""


@dataclass(frozen=True)
class PlannedFindings:
    """Some of what a plan says, and the part and line of what follows; None: nothing does."""

    items: Sequence[Discrepancy]
    following: tuple[int, int] | None


async def find_page(
    plan: Plan, blobs: PlanReading, size: int, part: int = 0, at: int = 0, kind: Kind | None = None
) -> PlannedFindings:
    """The first `size` findings from that place on, of one kind or of all.

    A page of one kind may have fewer, or none, and others may follow it: it is looked for in a few parts.

    Raises: PlanUnknown where the plan is purged just now, PlanUnreadable, StorageError.
    """
    found: list[Discrepancy] = []
    if kind is not None and not plan.counts.get(kind):
        return PlannedFindings(found, None)
    first = max(part, 0 if kind is None else await _first_part_of(kind, plan, blobs))
    for number in range(first, min(plan.parts, first + PARTS_FOR_A_PAGE)):
        lines = (await _part(plan, number, blobs)).splitlines()
        if kind is not None and lines and _stage(lines[0]) > _STAGES[kind]:
            return PlannedFindings(found, None)
        for line in range(at if number == part else 0, len(lines)):
            if kind is not None and not is_of(kind, lines[line]):
                continue
            if len(found) == size:
                return PlannedFindings(found, (number, line))
            found.append(finding_of(lines[line]))
        if kind is not None and len(found) == plan.counts[kind]:
            return PlannedFindings(found, None)
    following = first + PARTS_FOR_A_PAGE
    return PlannedFindings(found, (following, 0) if following < plan.parts else None)


async def _first_part_of(kind: Kind, plan: Plan, blobs: PlanReading) -> int:
    """The first part that may have findings of that kind."""
    low, high = 0, plan.parts if _STAGES[kind] else 0
    while low < high:
        middle = (low + high) // 2
        key = plan_part_key(plan.id, middle)
        try:
            head = await blobs.read_part(key, 0, _LONGEST)
        except BlobNotFound as error:
            raise PlanUnknown(f"There is no plan {plan.id} any more.") from error
        if _stage(head.content) < _STAGES[kind]:
            low = middle + 1
        else:
            high = middle
    return low


async def _part(plan: Plan, number: int, blobs: Get) -> bytes:
    try:
        return await blobs.get(plan_part_key(plan.id, number))
    except BlobNotFound as error:
        raise PlanUnknown(f"There is no plan {plan.id} any more.") from error


def _stage(line: bytes) -> int:
    """In which stage of the planning a finding was made."""
    return next((stage for kind, stage in _STAGES.items() if is_of(kind, line)), 0)
