"""The plans of sweeps, page by page, as the API and the console list them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipelines.sweep import plan as plans
from pipelines.sweep.findings import Discrepancy, Kind
from pipelines.sweep.plan import Plan, PlanUnknown, PlanUnreadable
from pipelines.sweep.plan_pages import find_page
from pipelines.sweep.trash import plan_names
from storage.blobs import Blobs
from storage.tasks import together
from worker.http.cursors import cursor_of, place_in
from worker.http.problems import Problem, not_found


@dataclass(frozen=True)
class ListedPlans:
    """Some plans, the newest first, and the cursor of those before them."""

    plans: Sequence[Plan]
    following: str | None


@dataclass(frozen=True)
class ListedFindings:
    """Some of what a plan says, and the cursor of what follows."""

    items: Sequence[Discrepancy]
    following: str | None


def place_of_plans(cursor: str | None) -> str | None:
    """The plan before which a page of plans begins; None: with the newest. Raises: Problem (bad_request)."""
    return None if cursor is None else place_in("sweeps", cursor, str)[0]


async def list_plans(blobs: Blobs, before: str | None, limit: int) -> ListedPlans:
    """The newest plans before that one; no more than `limit` are read. Raises: StorageError."""
    names = sorted(await plan_names(blobs, proved=False), reverse=True)
    names = [name for name in names if before is None or name < before]
    found = await together(*(_complete(name, blobs) for name in names[:limit]))
    following = cursor_of("sweeps", [names[limit - 1]]) if len(names) > limit else None
    return ListedPlans([plan for plan in found if plan is not None], following)


async def _complete(name: str, blobs: Blobs) -> Plan | None:
    with suppress(PlanUnknown, PlanUnreadable):  # it is not complete, or was purged just now
        return await plans.load(name, blobs)
    return None


async def find_plan(blobs: Blobs, name: str) -> Plan:
    """The plan of that name. Raises: Problem (not_found), StorageError."""
    try:
        return await plans.load(name, blobs)
    except PlanUnknown as error:
        raise not_found("There is no such plan.") from error
    except PlanUnreadable as error:
        raise not_found("The plan cannot be read by this version.") from error


async def list_findings(
    blobs: Blobs, plan: Plan, cursor: str | None, limit: int, kind: Kind | None = None
) -> ListedFindings:
    """What a plan says, of one kind or of all, from that cursor on, in the order in which it is applied.

    Raises: Problem (bad_request, not_found), StorageError.
    """
    question = ["sweep", plan.id] if kind is None else ["sweep", plan.id, kind]
    part, at = (0, 0) if cursor is None else place_in(question, cursor, int, int)
    if part < 0 or at < 0:
        raise Problem("bad_request", "cursor: it is not one of this plan.")
    try:
        found = await find_page(plan, blobs, limit, part, at, kind)
    except PlanUnknown as error:
        raise not_found("There is no such plan any more.") from error
    except PlanUnreadable as error:
        raise not_found("The plan cannot be read by this version.") from error
    following = None if found.following is None else cursor_of(question, found.following)
    return ListedFindings(found.items, following)
