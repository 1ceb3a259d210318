"""A sweep's plan: what it found, what applying it would do, by which command, and how it is undone."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from pipelines.sweep.findings import Discrepancy, Kind
from pipelines.sweep.plan import APPLY, Plan
from storage.blobs import BlobInfo, Existence
from storage.catalog.opening import Catalog
from storage.catalog.sweep_records import VariantRow
from storage.errors import KeyRefused, StorageError
from storage.keys import parse_variant_key, segments, trash_key
from storage.totals import Count
from worker.http.console.bounded import StorageAnswers
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, ConsoleQuery, picture_path
from worker.http.console.visitors import Visitor
from worker.http.console.wording import moment_ms
from worker.http.face import Face
from worker.http.listing import CursorText
from worker.http.sweep_plans import find_plan, list_findings
from worker.plan_documents import PLANNED
from worker.sweep_words import ACTION, MEANING

_A_PAGE = 48  # findings
_MOVED = (Kind.ORPHAN, Kind.RETIRED)  # whose files are variants
_TOUCHED = tuple(kind for kind in PLANNED if kind is not Kind.UNKNOWN)


class SweepQuery(ConsoleQuery):
    """Which findings of a plan are shown."""

    kind: Kind | None = None
    cursor: CursorText | None = None


class PlanState(StrEnum):
    """What became of a plan."""

    PENDING = "pending"
    STOPPED = "stopped"  # by the breaker
    BEGUN = "begun"  # to be applied
    APPLIED = "applied"
    NOTHING = "nothing to do"  # it only reports


@dataclass(frozen=True)
class ShownPlan:
    """A plan with what became of it, and its findings by kind."""

    plan: Plan
    state: PlanState

    @property
    def path(self) -> str:
        """Where its page is."""
        return f"{ROOT}/sweeps/{self.plan.id}"

    @property
    def made_ms(self) -> int:
        """When it was made."""
        return int(self.plan.made_at * 1000)

    @property
    def applied_ms(self) -> int | None:
        """When it was applied last."""
        return None if self.plan.applied is None else moment_ms(self.plan.applied)

    @property
    def amounts(self) -> Mapping[Kind, Count]:
        """Number and bytes of what it found, by kind."""
        return {
            kind: Count(count, self.plan.bytes.get(kind, 0))
            for kind in PLANNED
            if (count := self.plan.counts.get(kind))
        }

    @property
    def command(self) -> str:
        """What applies it."""
        force = " --force" if self.plan.stopped else ""
        return f"media sweep apply {self.plan.id}{force}"


class Whereabouts(StrEnum):
    """Where the file of a finding is now."""

    THERE = "there"
    GONE = "gone"
    TRASH = "in the trash"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class ShownFinding:
    """A finding as it is now: where its file is, its picture, and the upload that has it."""

    key: str
    bytes: int
    file: Whereabouts
    picture: str | None
    upload_id: UUID | None
    name: str
    """What is shown of the key."""


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/sweeps/{plan}`."""
    face = console.face

    @router.get(f"{ROOT}/sweeps/{{plan}}", include_in_schema=False)
    async def sweep(
        request: Request,
        plan: str,
        query: Annotated[SweepQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.unbound)],
    ) -> Response:
        """Show a plan, and what it found of one kind, page by page."""
        blobs = face.stores.blobs
        found = await face.shared(StorageAnswers).answer(find_plan(blobs, plan))
        [shown] = await show_plans([found], face.stores.catalog)
        done = await _done(shown, face)
        kind = query.kind or next(iter(shown.amounts), Kind.ORPHAN)
        listed = await face.shared(StorageAnswers).answer(
            list_findings(blobs, found, query.cursor, _A_PAGE, kind)
        )
        return console.page(
            request,
            visitor,
            "sweep.html",
            f"Sweep {found.id}",
            shown=shown,
            absent=[one for one in PLANNED if one not in shown.amounts],
            kind=kind,
            has_pictures=kind in _MOVED,
            findings=await _shown_findings(listed.items, shown, visitor, face),
            is_first=query.cursor is None,
            following=listed.following,
            meaning=MEANING,
            action=ACTION,
            done=done,
            left_some=done is not None
            and any(done.get(kind, 0) < found.counts.get(kind, 0) for kind in _TOUCHED),
            restorable_ms=_restorable_ms(shown, face),
            kept_ms=shown.made_ms + face.settings.retention * 1000,
            purges_itself=face.settings.sweep_apply,
        )


async def show_plans(plans: Sequence[Plan], catalog: Catalog) -> Sequence[ShownPlan]:
    """Plans, each with what became of it. Raises: CatalogUnavailable."""
    begun = await catalog.sweeps.checkpoint(APPLY).load() if plans else None
    return [ShownPlan(plan, _state(plan, begun)) for plan in plans]


def _state(plan: Plan, begun: Mapping[str, object] | None) -> PlanState:
    if begun and (begun["plan"], begun["applied"]) == (plan.id, plan.applied):
        return PlanState.BEGUN
    if plan.applied:
        return PlanState.APPLIED
    if plan.stopped:
        return PlanState.STOPPED
    return PlanState.PENDING if any(map(plan.counts.get, _TOUCHED)) else PlanState.NOTHING


async def _done(shown: ShownPlan, face: Face) -> Mapping[str, int] | None:
    """How many of each kind were dealt with; None: it was not applied, or nobody remembers."""
    if shown.state is not PlanState.APPLIED:
        return None
    last = await face.stores.catalog.sweeps.last()
    return last.done if last and last.plan == shown.plan.id and last.applied_ms else None


def _restorable_ms(shown: ShownPlan, face: Face) -> int | None:
    """Until when at least what the plan moved to the trash is there; None: it moved nothing there."""
    if shown.applied_ms is None or not shown.plan.counts.get(Kind.ORPHAN):
        return None
    return shown.applied_ms + face.settings.retention * 1000


async def _shown_findings(
    findings: Sequence[Discrepancy], shown: ShownPlan, visitor: Visitor, face: Face
) -> Sequence[ShownFinding]:
    keys = [one.key for one in findings if _is_key(one.key)]
    is_untouched = shown.state in (PlanState.PENDING, PlanState.STOPPED)
    trashed = {} if is_untouched else {key: trash_key(shown.plan.id, key) for key in keys}
    seen: Mapping[str, BlobInfo | Existence] = {}
    with suppress(StorageError):
        seen = await face.shared(StorageAnswers).answer(face.stores.blobs.stat([*keys, *trashed.values()]))
    rows = await face.stores.catalog.sweeps.find_rows(keys) if keys else {}

    def show(finding: Discrepancy) -> ShownFinding:
        key = finding.key
        file = _whereabouts(seen.get(key), seen.get(trashed.get(key, "")))
        is_variant = parse_variant_key(key) is not None
        row: VariantRow | None = rows.get(key)
        return ShownFinding(
            key=key,
            bytes=finding.bytes,
            file=file,
            picture=picture_path(key) if is_variant and file is Whereabouts.THERE else None,
            upload_id=row.upload_id if row else None,
            name=_name(key, is_variant=is_variant, is_demo=visitor.is_demo),
        )

    return [show(finding) for finding in findings]


def _name(key: str, *, is_variant: bool, is_demo: bool) -> str:
    if is_variant:
        return key.rpartition("/")[2]
    return "a name that the demo does not show" if is_demo else key


def _whereabouts(file: BlobInfo | Existence | None, trashed: BlobInfo | Existence | None) -> Whereabouts:
    if isinstance(file, BlobInfo):
        return Whereabouts.THERE
    if file is not Existence.MISSING:
        return Whereabouts.UNKNOWN
    return Whereabouts.TRASH if isinstance(trashed, BlobInfo) else Whereabouts.GONE


def _is_key(text: str) -> bool:
    try:
        segments(text)
    except KeyRefused:
        return False
    return True
