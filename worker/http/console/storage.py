"""The storage: what lies there and how it grows, where catalog and disk differ, and the plans of sweeps."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response

from pipelines.stats.growth import DAY_MS
from pipelines.stats.report import StorageReport, report
from storage.blobs import Space
from storage.blobs.s3_place import is_s3
from storage.errors import StorageError
from storage.tasks import together
from storage.totals import Snapshot
from worker.degradation import full
from worker.http.console.bounded import StorageAnswers
from worker.http.console.charts import Chart, ChartSeries, stacked_areas
from worker.http.console.concerns import is_soon_full
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, ConsoleQuery
from worker.http.console.sweeps import show_plans
from worker.http.console.visitors import Visitor
from worker.http.console.wording import moment, moment_ms, size
from worker.http.face import Face
from worker.http.listing import CursorText
from worker.http.sweep_plans import ListedPlans, list_plans, place_of_plans
from worker.sweep_words import MEANING

T = TypeVar("T")

_PLANS_A_PAGE = 10
_MOST_POINTS = 92  # of the chart
_CHART_PX = 180.0

Span = Literal["30", "90", "365", "all"]
SPANS: dict[Span, str] = {"30": "30 days", "90": "90 days", "365": "A year", "all": "All"}


class StorageQuery(ConsoleQuery):
    """How far back the growth is shown, and which plans."""

    days: Span = "90"
    cursor: CursorText | None = None


@dataclass(frozen=True)
class GrowthPoint:
    """What was stored at one moment, in bytes."""

    time_ms: int
    name: str
    """The day, or `now`."""
    originals: int
    variants: int
    superseded: int

    @property
    def bytes(self) -> int:
        """All together."""
        return self.originals + self.variants + self.superseded


@dataclass(frozen=True)
class GrowthChart:
    """What is drawn, and the numbers that it is drawn of, oldest first."""

    chart: Chart | None
    """None where a single snapshot tells no more than that something is stored now."""
    points: Sequence[GrowthPoint]


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/storage`."""
    face = console.face

    @router.get(f"{ROOT}/storage", include_in_schema=False)
    async def storage(
        request: Request,
        query: Annotated[StorageQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.unbound)],
    ) -> Response:
        """Show what is stored, how it grows, where catalog and disk differ, and the plans of sweeps."""
        before = place_of_plans(query.cursor)
        now_ms, reports = face.stores.catalog.database.now_ms(), face.stores.catalog.reports
        totals, space, listed = await together(
            reports.totals(by_day=False, since_day=_since(query.days, now_ms)),
            _space(face),
            _plans(face, before),
        )
        plans = None if listed is None else await show_plans(listed.plans, face.stores.catalog)
        if listed is None:
            space = None  # the disk whose room is known may be the one below a mount that is gone
        found = report(totals, space=space)
        return console.page(
            request,
            visitor,
            "storage.html",
            "Storage",
            report=found,
            growth=_growth(found, totals.snapshots, now_ms),
            days=query.days,
            spans=SPANS,
            is_bucket=is_s3(face.settings.storage_url),
            is_full=space is not None and full(space.used_bytes, space.free_bytes) is not None,
            is_soon_full=is_soon_full(found.growth.days_until_full),
            swept_ms=moment_ms(found.sweep.time) if found.sweep else None,
            sweep_applied_ms=moment_ms(found.sweep.applied) if found.sweep and found.sweep.applied else None,
            plans=plans,
            following=listed.following if listed else None,
            is_first=query.cursor is None,
            meaning=MEANING,
            retention=face.settings.retention,
            sweep_cron=face.settings.sweep_cron,
            purges_itself=face.settings.sweep_apply,
        )


async def _space(face: Face) -> Space | None:
    with suppress(StorageError):
        return await face.shared(StorageAnswers).answer(face.stores.blobs.space())
    return None


async def _plans(face: Face, before: str | None) -> ListedPlans | None:
    with suppress(StorageError):
        return await face.shared(StorageAnswers).answer(list_plans(face.stores.blobs, before, _PLANS_A_PAGE))
    return None


def _since(span: Span, now_ms: int) -> int:
    """The first day of that time."""
    return 0 if span == "all" else now_ms // DAY_MS - int(span)


def _growth(found: StorageReport, snapshots: Sequence[Snapshot], now_ms: int) -> GrowthChart | None:
    """What these snapshots say, and what is stored now; None before the first snapshot."""
    past = [
        GrowthPoint(one.time_ms, _day(one.day), one.original_bytes, one.variant_bytes, one.superseded_bytes)
        for one in thinned(snapshots, _MOST_POINTS - 1)
        if one.time_ms <= now_ms
    ]
    if not past:
        return None
    variants = sum(one.bytes for one in found.variants)
    points = [*past, GrowthPoint(now_ms, "now", found.originals.bytes, variants, found.superseded.bytes)]
    if len(past) == 1:
        return GrowthChart(None, points)
    series = [
        ChartSeries(name, [getattr(point, name) for point in points])
        for name in ("originals", "variants", "superseded")
    ]
    titles, times = [_words(point) for point in points], [point.time_ms for point in points]
    return GrowthChart(stacked_areas(series, titles, _CHART_PX, _scale, times), points)


def thinned(points: Sequence[T], most: int) -> Sequence[T]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]


def _day(number: int) -> str:
    return moment(number * DAY_MS)[:10]


def _scale(number: int) -> str:
    """Bytes beside a line of a chart, which are round."""
    return size(number).replace(".0 ", " ")


def _words(point: GrowthPoint) -> str:
    parts = [f"{name} {size(getattr(point, name))}" for name in ("originals", "variants", "superseded")]
    return f"{point.name}: {size(point.bytes)} ({', '.join(parts)})"
