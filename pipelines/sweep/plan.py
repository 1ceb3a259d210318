"""Plans: what a sweep found, written down key by key before anything is touched."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import uuid4

import orjson

from pipelines.moments import moment
from pipelines.sweep.findings import ROWS, Discrepancy, Kind, StepResult
from storage.blobs import Get, Put
from storage.errors import BlobNotFound
from storage.keys import VARIANTS, is_plan_name, plan_key, plan_part_key

DRAFT = "draft"  # the checkpoint of a plan in the making
APPLY = "apply"  # the checkpoint of a plan that is being applied
STALE_S = 24 * 3600  # a draft or a purge that was left so long says little of today
# The breaker stops a plan that would take away more than both.
_LARGEST_SHARE = 0.05
_LARGEST_NUMBER = 100


class PlanUnknown(Exception):
    """There is no complete plan of that name."""


class PlanUnreadable(Exception):
    """What lies under a plan's name is nothing that this program writes; a newer one may."""


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
        return implausible(self.files, self.rows, self.counts.get(Kind.ORPHAN, 0))

    @property
    def made_at(self) -> float:
        """When the plan was made, in seconds since 1970."""
        return datetime.fromisoformat(self.made).timestamp()


def implausible(files: int, rows: int, orphans: int) -> str | None:
    """Why a plan with so many of each must not be applied without a person's word; None when it may."""
    if orphans and not rows:
        return (
            f"the catalog holds no variant at all, but there are {files} files: "
            "this looks like another catalog, or an empty one"
        )
    share = orphans / files if files else 0.0
    if orphans > _LARGEST_NUMBER and share > _LARGEST_SHARE:
        return (
            f"{orphans} of {files} files ({share:.0%}) would be taken away; "
            f"more than {_LARGEST_NUMBER} and more than {_LARGEST_SHARE:.0%} are not plausible"
        )
    return None


@dataclass(frozen=True)
class Draft:
    """A plan in the making: everything of `stage` up to the key `after` has been inspected."""

    id: str
    begun: float  # s since 1970
    stage: int = 0
    after: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)  # by folder or kind, as a step counts them
    bytes: Mapping[str, int] = field(default_factory=dict)
    parts: int = 0

    @classmethod
    def new(cls, now: float) -> "Draft":
        """One that begins now (s since 1970)."""
        return cls(f"sweep-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}", now)


async def write_down(draft: Draft, step: StepResult, blobs: Put) -> Draft:
    """The draft with what a step has found, which is written to a file of its own. Raises: StorageError.

    The same step again replaces that file.
    """
    counts, sizes = Counter(draft.counts), Counter(draft.bytes)
    for name, count in step.counts():
        counts[name] += count.count
        sizes[name] += count.bytes
    if step.findings:
        lines = [orjson.dumps(finding) + b"\n" for finding in step.findings]
        await blobs.put(plan_part_key(draft.id, draft.parts), _chunks(b"".join(lines)))
    return replace(
        draft,
        stage=draft.stage + (step.after is None),
        after=step.after or "",
        counts=counts,
        bytes=sizes,
        parts=draft.parts + bool(step.findings),
    )


async def finish(draft: Draft, now: float, blobs: Put) -> Plan:
    """The plan that the draft has become, written down where it says anything. Raises: StorageError."""
    counts, sizes = (
        {kind.value: numbers[kind] for kind in Kind if kind in numbers}
        for numbers in (draft.counts, draft.bytes)
    )
    files, rows = draft.counts[VARIANTS], draft.counts[ROWS]
    plan = Plan(draft.id, moment(int(now * 1000)), counts, sizes, files, rows, draft.parts)
    if plan.counts:
        await save(plan, blobs)
    return plan


async def save(plan: Plan, blobs: Put) -> None:
    """Write a plan's head. Raises: StorageError."""
    await blobs.put(plan_key(plan.id), _chunks(orjson.dumps(plan, option=orjson.OPT_INDENT_2)))


async def load(plan_id: str, blobs: Get) -> Plan:
    """The head of a plan. Raises: PlanUnknown, PlanUnreadable, StorageError."""
    if not is_plan_name(plan_id):
        raise PlanUnknown(f"{plan_id!r} is not the name of a plan.")
    try:
        return Plan(**orjson.loads(await blobs.get(plan_key(plan_id))))
    except BlobNotFound as error:
        raise PlanUnknown(f"There is no plan {plan_id}.") from error
    except (TypeError, ValueError) as error:
        raise PlanUnreadable(f"{plan_key(plan_id)} is no plan that this version can read.") from error


async def groups(
    plan: Plan, blobs: Get, size: int, part: int = 0, at: int = 0
) -> AsyncGenerator[tuple[Sequence[Discrepancy], int, int], None]:
    """What the plan says, at most `size` findings at once, each group with the part and place of the next.

    Raises: PlanUnreadable, StorageError.
    """
    for number in range(part, plan.parts):
        lines = (await blobs.get(plan_part_key(plan.id, number))).splitlines()
        for start in range(at if number == part else 0, len(lines), size):
            yield [finding_of(line) for line in lines[start : start + size]], number, start + size


def finding_of(line: bytes) -> Discrepancy:
    """What a line of a plan says. Raises: PlanUnreadable."""
    try:
        said = orjson.loads(line)
        return Discrepancy(Kind(said["kind"]), said["key"], said["bytes"])
    except (TypeError, ValueError, KeyError) as error:
        raise PlanUnreadable(f"A plan says what this version cannot read: {line[:100]!r}.") from error


def is_of(kind: Kind, line: bytes) -> bool:
    """Whether a line of a plan is about a finding of that kind, which it begins with."""
    return line.startswith(b'{"kind":"%s"' % kind.value.encode())


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
