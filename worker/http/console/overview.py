"""Overview: how it goes, and what needs somebody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response

from pipelines.stats.report import QueueDepth, StorageReport, report
from storage.blobs import Space
from storage.catalog.backup_notes import BackupNotes
from storage.catalog.reading import UploadFilter
from storage.catalog.records import State, Upload
from storage.tasks import together
from storage.totals import StorageTotals
from worker.degradation import backup_problem, now_and_then
from worker.http.console.bounded import BoundedQuestion, Unanswered
from worker.http.console.charts import Chart, ChartSeries, opposed_bars
from worker.http.console.concerns import Observation, concerns, failures, retried, without_names
from worker.http.console.living import living_workers
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, NoFields, see_other
from worker.http.console.pulse import Minute
from worker.http.console.visitors import Visitor
from worker.http.console.wording import count, earlier_ms, moment
from worker.http.face import Face
from worker.queue.heartbeats import ReportingWorker
from worker.queue_depth import queue_depth

T = TypeVar("T")
_CHART_PX = 132
_LATEST = 12  # pictures
_READY = UploadFilter(state=State.READY)
_COUNTED = 1000  # uploads of the last hour
_HOUR_S = 3600


@dataclass(frozen=True)
class ShownMinute(Minute):
    """The outcomes of a minute, and how many dead letters are kept of it."""

    refused: int = 0


@dataclass(frozen=True)
class LastHour:
    """What became of uploads in the last hour."""

    minutes: Sequence[ShownMinute]
    chart: Chart
    keys: Sequence[str]
    counted_since_ms: int | None
    """From when on it was counted; None: all of it."""
    is_complete: bool

    @property
    def ready(self) -> int:
        """How many were ready."""
        return sum(minute.ready for minute in self.minutes)

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(minute.failed for minute in self.minutes)

    @property
    def refused(self) -> int:
        """How many events were refused, and are kept."""
        return sum(minute.refused for minute in self.minutes)

    @property
    def busy(self) -> Sequence[ShownMinute]:
        """The minutes in which something ended, newest first."""
        return [one for one in reversed(self.minutes) if one.ready or one.failed or one.refused]


@dataclass(frozen=True)
class ShownRows:
    """What the page shows of single uploads: the latest pictures, and since when the first one waits."""

    latest: Sequence[Upload]
    queued_since_ms: int | None
    ready: int | None
    """How many became ready in the last hour, and still are; None: more than are counted."""
    failed: int | None
    refused: Mapping[int, int]
    """How many dead letters are kept of the minutes of the last hour, by minute since 1970."""


InRedis = tuple[QueueDepth, Sequence[ReportingWorker] | None]


@dataclass(frozen=True)
class Answers:
    """What the machines have said, or why not."""

    redis: InRedis | Unanswered
    space: Space | Unanswered | None
    backup_problem: str | None


class Machines:
    """What may be away, or hang: Redis, the storage; and the notes of backups."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._redis = BoundedQuestion(self._ask_redis)
        self._space = BoundedQuestion(self._ask_space)
        self._look_at_backups = now_and_then(self._ask_backups)

    async def ask(self) -> Answers:
        """Ask all of them at once. Raises: CatalogUnavailable."""
        redis, space = _answer(self._redis), _answer(self._space)
        return Answers(*await together(redis, space, self._backup_problem()))

    async def _backup_problem(self) -> str | None:
        return await self._look_at_backups()

    async def _ask_redis(self) -> InRedis:
        return await queue_depth(self._face.queue), await living_workers(self._face)

    async def _ask_space(self) -> Space | None:
        return await self._face.stores.blobs.space()

    async def _ask_backups(self) -> str | None:
        catalog, settings = self._face.stores.catalog, self._face.settings
        if not settings.backup:
            return None
        notes, now = BackupNotes(catalog.database), catalog.outbox.now_ms()
        made, since_ms = await notes.last(), await notes.expected_ms()
        return await backup_problem(notes, made, settings.backup_cron, now, since_ms or now)


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console`."""
    face = console.face
    machines = Machines(face)

    @router.get(ROOT, include_in_schema=False)
    async def overview(
        request: Request,
        query: Annotated[NoFields, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show how it goes; who sees some uploads alone is led to those."""
        if not visitor.sees_all:
            return see_other(f"{ROOT}/uploads")
        totals, rows, answers = await together(
            face.stores.catalog.reports.totals(largest=0, by_day=False), _rows(face), machines.ask()
        )
        seen = _observe(face, totals, answers)
        is_new = _is_new(seen.report)
        found = concerns(without_names(seen) if visitor.is_demo else seen, is_new=is_new)
        return console.page(
            request,
            visitor,
            "overview.html",
            "Overview",
            report=seen.report,
            workers=seen.workers,
            oldest_s=_oldest_s(face, seen.report, rows),
            concerns=[one.without_detail for one in found] if visitor.is_demo else found,
            failures=failures(seen.report),
            retried=retried(totals),
            is_new=is_new,
            rate=face.pulse.rate(),
            latency=face.pulse.latency(),
            hour=_last_hour(face, rows.refused),
            rows=rows,
        )


async def _rows(face: Face) -> ShownRows:
    reader, since_ms = face.reader, earlier_ms(_HOUR_S)
    ready_ones, failed_ones = (
        UploadFilter(state=state, since_ms=since_ms) for state in (State.READY, State.FAILED)
    )
    latest, queued_since_ms, (ready, failed, refused) = await together(
        reader.page(_READY, None, _LATEST),
        reader.oldest_queued_ms(),
        together(
            reader.count(ready_ones, _COUNTED),
            reader.count(failed_ones, _COUNTED),
            reader.dead_letters_by_minute(since_ms),
        ),
    )
    return ShownRows(latest, queued_since_ms, _or_more(ready), _or_more(failed), refused)


def _or_more(counted: int | None) -> int | None:
    return None if counted is None or counted >= _COUNTED else counted


def _observe(face: Face, totals: StorageTotals, answers: Answers) -> Observation:
    redis, space = answers.redis, answers.space
    queue, workers = (None, None) if isinstance(redis, Unanswered) else redis
    return Observation(
        report(totals, queue=queue, space=None if isinstance(space, Unanswered) else space),
        workers,
        redis_problem=str(redis) if isinstance(redis, Unanswered) else "",
        storage_problem=str(space) if isinstance(space, Unanswered) else "",
        backup_problem=answers.backup_problem,
        watches_backups=bool(face.settings.backup),
    )


async def _answer(question: BoundedQuestion[T]) -> T | Unanswered:
    try:
        return await question.answer()
    except Unanswered as unanswered:
        return unanswered


def _oldest_s(face: Face, found: StorageReport, rows: ShownRows) -> float | None:
    """For how long the first of all that waits has waited: an event, or an upload; None: nothing waits."""
    waits: list[float] = []
    if found.queue and found.queue.oldest_seconds is not None:
        waits.append(found.queue.oldest_seconds)
    if rows.queued_since_ms is not None:
        waits.append(max(0, face.stores.catalog.outbox.now_ms() - rows.queued_since_ms) / 1000)
    return max(waits, default=None)


def _is_new(found: StorageReport) -> bool:
    """Whether nobody has sent anything yet."""
    is_waiting = found.queue is not None and found.queue.depth > 0
    return not any(found.uploads.values()) and not found.dead_letters and not is_waiting


def _last_hour(face: Face, refused: Mapping[int, int]) -> LastHour:
    pulse = face.pulse
    minutes = [
        ShownMinute(one.begin_ms, one.ready, one.failed, refused.get(one.begin_ms // 60_000, 0))
        for one in pulse.minutes()
    ]
    since_ms = pulse.since_ms
    is_whole = since_ms is None or since_ms < minutes[1].begin_ms
    return LastHour(
        minutes,
        draw(minutes),
        [str(minute.begin_ms // 60_000) for minute in minutes],
        None if is_whole else since_ms,
        pulse.is_complete,
    )


def draw(minutes: Sequence[ShownMinute]) -> Chart:
    """The minutes as bars: what was ready above the line, what was not below it."""
    ready = ChartSeries("ready", [minute.ready for minute in minutes])
    failed = ChartSeries("failed", [minute.failed + minute.refused for minute in minutes])
    return opposed_bars(ready, failed, [_title(minute) for minute in minutes], _CHART_PX)


def _title(minute: ShownMinute) -> str:
    became = [(minute.ready, "ready"), (minute.failed, "failed"), (minute.refused, "refused")]
    said = ", ".join(f"{count(number)} {word}" for number, word in became if number)
    return f"{moment(minute.begin_ms)[11:16]} UTC: {said or 'nothing'}"
