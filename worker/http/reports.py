"""Reports: the storage, the plans of sweeps, and the limits that uploads have."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from pipelines import formats
from pipelines.recipe import DEFAULT
from pipelines.stats.report import QueueDepth, StorageReport, report
from pipelines.sweep.plan import Plan
from storage.blobs import Space
from storage.errors import StorageError
from storage.tasks import together
from storage.totals import DEAREST
from worker.http.access import Caller
from worker.http.cursors import page_response
from worker.http.documents import json_response
from worker.http.face import Face
from worker.http.listing import PageQuery
from worker.http.parameters import DirectRoute
from worker.http.problems import Problem
from worker.http.schemas import CURSOR, LINK, Next, NoParameters, document_of
from worker.http.sweep_plans import find_plan, list_findings, list_plans, place_of_plans
from worker.plan_documents import PLANNED, plan_document
from worker.queue import QueueUnavailable
from worker.queue_depth import queue_depth
from worker.upload_limits import HEADERS, limits_document, variant_limits

_ANSWERS_WITHIN = 60  # seconds that clients may keep the limits


class AmountView(BaseModel):
    """A number of keys, and the bytes of their files."""

    count: int
    bytes: int


class PlanView(BaseModel):
    """A sweep's plan: what it found of each kind, and whether it was applied."""

    plan: str = Field(description="its name")
    made: str = Field(description="ISO 8601, UTC")
    files: int = Field(description="files that were compared")
    rows: int = Field(description="records that were compared")
    findings: dict[str, AmountView] = Field(description="by kind")
    stopped: str | None = Field(description="why it must not be applied without a person's word")
    applied: str | None = Field(description="when it was applied: ISO 8601, UTC")


class FindingView(BaseModel):
    """A key that a plan names; `bytes` are its file's, or what its record says."""

    kind: str
    key: str
    bytes: int


class PlanPage(BaseModel):
    """Plans, the newest first."""

    items: list[PlanView]
    next: Next


class PlanDetail(PlanView):
    """A sweep's plan, with a page of what it found."""

    items: list[FindingView]
    next: Next


class VariantLimits(BaseModel):
    """A picture that a recipe makes."""

    name: str
    box: int = Field(description="pixels of the square that it fits in or covers")
    fit: str
    format: str
    quality: int
    background: str = Field(description="of transparent pixels")
    progressive: bool
    subsampling: str = Field(description="of its colour")
    crop: str | None = Field(description="what is kept where it covers its box; null where it fits in")
    effort: str = Field(description="how hard its encoder works for fewer bytes")


class RecipeView(BaseModel):
    """A recipe, with what it makes."""

    name: str
    placeholder: str = Field(description="what is made for pages that load a picture")
    variants: list[VariantLimits]


class LimitsView(BaseModel):
    """What an upload may be, and how it is sent."""

    version: str
    max_bytes: int
    max_pixels: int
    formats: list[str]
    recipes: list[RecipeView]
    headers: list[str] = Field(description="of an upload, all of them optional")


class History(BaseModel):
    """What the report takes."""

    model_config = ConfigDict(extra="forbid")

    history: bool = Field(False, description="with a snapshot a day")


def routes(face: Face) -> APIRouter:
    """`/v1/stats`, `/v1/sweeps` and `/v1/limits`."""
    router = APIRouter(tags=["reports"], route_class=DirectRoute)
    read = face.access.requires("read")

    @router.get("/v1/stats", responses={200: document_of(StorageReport, "The report.", _REPORT)})
    async def stats(query: Annotated[History, Query()], caller: Annotated[Caller, Depends(read)]) -> Response:
        """Report uploads by state, files by variant, day and size, queue depth, drift, free space and growth.

        It is the document of `media stats --json`. A key that is bound to an owner or to a folder has none.
        """
        _check_unbound(caller)
        totals, queue, space = await together(
            face.stores.catalog.reports.totals(owners=DEAREST), _queue(face), _space(face)
        )
        return json_response(report(totals, queue=queue, space=space, history=query.history))

    @router.get(
        "/v1/sweeps",
        responses={200: document_of(PlanPage, "A page.", {"items": [_PLAN], "next": CURSOR}, LINK)},
    )
    async def sweeps(
        request: Request, query: Annotated[PageQuery, Query()], caller: Annotated[Caller, Depends(read)]
    ) -> Response:
        """List the plans of sweeps, the newest first.

        A key that is bound to an owner or to a folder has none.
        """
        _check_unbound(caller)
        blobs, before = face.stores.blobs, place_of_plans(query.cursor)
        listed = await list_plans(blobs, before, query.limit)
        items = [_head(plan) for plan in listed.plans]
        return page_response(request, face.links.base, items, listed.following, {})

    @router.get(
        "/v1/sweeps/{plan}",
        responses={
            200: document_of(PlanDetail, "The plan.", {**_PLAN, "items": [_FINDING], "next": CURSOR}, LINK)
        },
    )
    async def sweep(
        request: Request,
        plan: Annotated[str, Path(description="its name", examples=[_PLAN["plan"]])],
        query: Annotated[PageQuery, Query()],
        caller: Annotated[Caller, Depends(read)],
    ) -> Response:
        """Show a sweep's plan with what it found, key by key, in the order in which it is applied."""
        _check_unbound(caller)
        blobs = face.stores.blobs
        head = await find_plan(blobs, plan)
        listed = await list_findings(blobs, head, query.cursor, query.limit)
        items = [{"kind": one.kind, "key": one.key, "bytes": one.bytes} for one in listed.items]
        return page_response(request, face.links.base, items, listed.following, {}, _head(head))

    @router.get("/v1/limits", responses={200: document_of(LimitsView, "The limits.", _LIMITS)})
    async def limits(query: Annotated[NoParameters, Query()]) -> Response:
        """Tell what an upload may be: its bytes, pixels and formats, recipes and headers. It needs no key."""
        headers = {"Cache-Control": f"public, max-age={_ANSWERS_WITHIN}"}
        return json_response(limits_document(face.settings), headers=headers)

    return router


def _check_unbound(caller: Caller) -> None:
    if caller.owner is not None or caller.prefix is not None:
        raise Problem("forbidden", "The key is bound to some uploads, and this is about all of them.")


async def _queue(face: Face) -> QueueDepth | None:
    try:
        return await queue_depth(face.queue)
    except QueueUnavailable:
        return None


async def _space(face: Face) -> Space | None:
    try:
        return await face.stores.blobs.space()
    except StorageError:
        return None


def _head(plan: Plan) -> dict[str, Any]:
    return {**plan_document(plan), "applied": plan.applied}


_PLAN: Mapping[str, Any] = {
    "plan": "sweep-20261121T030000-5e0c1d2f",
    "made": "2026-11-21T03:00:04+00:00",
    "files": 144_630,
    "rows": 144_618,
    "findings": {kind.value: {"count": 0, "bytes": 0} for kind in PLANNED}
    | {"orphan": {"count": 12, "bytes": 3_145_728}},
    "stopped": None,
    "applied": None,
}
_FINDING = {"kind": "orphan", "key": "variants/b2/bf/b2bf9aec-d6b9-5c89-90b6-5217b806b15f.jpg", "bytes": 4211}
_LIMITS = {
    "version": "1.0.0",
    "max_bytes": 10_485_760,
    "max_pixels": 100_000_000,
    "formats": [known.name for known in formats.FORMATS],
    "recipes": [
        {
            "name": "default",
            "placeholder": DEFAULT.placeholder,
            "variants": [variant_limits(DEFAULT.variants[0])],
        }
    ],
    "headers": list(HEADERS),
}
_REPORT: Mapping[str, Any] = {
    "time": "2026-11-21T10:00:00+00:00",
    "uploads": {"queued": 12, "processing": 2, "ready": 48_210, "failed": 31, "deleting": 0, "deleted": 4},
    "failures": [{"code": "corrupt_image", "uploads": 31}],
    "retrying": [],
    "dead_letters": 4,
    "originals": {"files": 48_210, "bytes": 96_420_000_000, "formats": [], "uncounted": 45},
    "variants": [{"name": "thumb", "format": "jpeg", "files": 48_210, "bytes": 203_012_310}],
    "superseded": {"files": 0, "bytes": 0},
    "bytes": 96_623_012_310,
    "proportion": 0.0021,
    "days": [],
    "largest": [],
    "owners": [{"owner": "mia", "cpu_seconds": 612.4, "uploads": 5_210, "bytes": 10_420_000_000}],
    "queue": {"depth": 12, "oldest_seconds": 3, "jobs": 1, "workers": 2},
    "sweep": None,
    "trash": None,
    "drift": None,
    "space": None,
    "growth": {"bytes_per_day": None, "days_until_full": None},
    "history": None,
}
