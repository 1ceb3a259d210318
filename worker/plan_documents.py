"""The JSON of a sweep's plan, for people."""

from typing import Any

from pipelines.sweep.findings import Kind
from pipelines.sweep.plan import Plan

PLANNED = (Kind.ORPHAN, Kind.MISSING, Kind.OUTDATED, Kind.LEFTOVER, Kind.RETIRED, Kind.UNKNOWN)
"""The kinds of what a plan says."""


def plan_document(plan: Plan) -> dict[str, Any]:
    """The head of a sweep's plan, with how much it found of each kind."""
    return {
        "plan": plan.id,
        "made": plan.made,
        "files": plan.files,
        "rows": plan.rows,
        "findings": {
            kind.value: {"count": plan.counts.get(kind, 0), "bytes": plan.bytes.get(kind, 0)}
            for kind in PLANNED
        },
        "stopped": plan.stopped,
    }
