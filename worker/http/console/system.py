"""The page System: workers and what they do now, what the doctor finds, settings, versions, the queue."""

import asyncio
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response

from pipelines.stats.report import QueueDepth
from storage.catalog.database import CatalogVersions, versions_of
from storage.catalog.reading import AtWork
from worker.degradation import MUCH
from worker.doctor.checkups import KEPT_S, Checkup, Checkups
from worker.findings import Finding
from worker.http.console.bounded import BoundedQuestion, Unanswered
from worker.http.console.concerns import in_place
from worker.http.console.living import living_workers
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, ConsoleQuery
from worker.http.console.visitors import Visitor
from worker.http.face import Face
from worker.http.problems import Problem
from worker.queue.heartbeats import Heartbeat, ReportingWorker, WorkerInfo
from worker.queue.stream import GROUP
from worker.queue_depth import queue_depth
from worker.variables import shown_settings
from worker.webhooks.listing import WebhookReport, report_webhooks

T = TypeVar("T")

MOST_WEBHOOKS = 20  # that wait, or were given up
MOST_AT_WORK = 200  # uploads; a worker has two for each decoder
_NOTHING_SAID = WorkerInfo()
_URGENT = ("unhealthy", "degraded")  # states
_UNKNOWN = "unknown"  # what a finding says of a version that it was not told


class SystemQuery(ConsoleQuery):
    """Whether to wait for what the doctor finds: `1` as it was found lately, `again` as it is now."""

    checks: Literal["1", "again"] | None = None


@dataclass(frozen=True)
class ShownWorker:
    """A living worker as the page shows it."""

    id: str
    name: str
    state: str
    heartbeat: Heartbeat
    info: WorkerInfo
    uploads: Sequence[AtWork] | None
    """What it works on; None where the catalog does not say."""

    @property
    def busy(self) -> int:
        """How many of its decoders are at work: the catalog knows it sooner than heartbeats come."""
        return (
            self.info.busy or 0 if self.uploads is None else min(self.info.decoders or 0, len(self.uploads))
        )

    @property
    def is_short_of_memory(self) -> bool:
        """Whether its processes have taken most of the budget."""
        return bool(self.info.budget) and (self.info.memory or 0) > MUCH * (self.info.budget or 0)

    @property
    def memory_share(self) -> float:
        """What part of its budget its processes have, in %, of 100 at most."""
        return min(100.0, round(100 * (self.info.memory or 0) / (self.info.budget or 1), 1))


@dataclass(frozen=True)
class ShownCheckup:
    """What the doctor has found, what somebody has to do about first."""

    checkup: Checkup

    @property
    def age_s(self) -> int:
        """How long ago that was."""
        return int(time.monotonic() - self.checkup.ended)

    @property
    def is_recent(self) -> bool:
        """Whether it need not be checked again."""
        return time.monotonic() - self.checkup.ended < KEPT_S

    @property
    def bad(self) -> Sequence[Finding]:
        """Errors, then warnings."""
        found = self.checkup.findings
        return [one for level in ("error", "warning") for one in found if one.level == level]

    @property
    def well(self) -> Sequence[Finding]:
        """What is as it should be."""
        return [one for one in self.checkup.findings if one.level == "ok"]


@dataclass(frozen=True)
class SystemNow:
    """What Redis and catalog say at this moment; None is what did not answer."""

    workers: Sequence[ReportingWorker] | None
    at_work: Sequence[AtWork] | None
    depth: QueueDepth | None
    versions: CatalogVersions | None
    webhooks: Sequence[WebhookReport] | None
    """Of each endpoint that a worker has had."""


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/system`."""
    face, began = console.face, time.monotonic()
    checkups, questions = Checkups(face.settings), _Questions(face)

    @router.get(f"{ROOT}/system", include_in_schema=False)
    async def system(
        request: Request,
        query: Annotated[SystemQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.unbound)],
    ) -> Response:
        """Show workers, findings, settings, versions and queue; whoever has a bound key sees none of it."""
        if query.checks is not None:
            again = query.checks == "again" and not visitor.is_demo
            await checkups.latest(again=again, since=face.tail.turned_at)
        now = await questions.ask()
        checkup = ShownCheckup(checkups.last) if checkups.last else None
        has_turned = checkup is not None and checkup.checkup.ended < face.tail.turned_at
        workers = _shown_workers(now, visitor)
        return console.page(
            request,
            visitor,
            "system.html",
            "System",
            workers=workers,
            decoders=sum(one.info.decoders or 0 for one in workers),
            busy=sum(one.busy for one in workers),
            orphaned=_orphaned(now, workers),
            now=now,
            checkup=checkup,
            # A page that refreshes itself has had its findings already; it need not look for ever.
            loads_checkup=has_turned
            or (not (checkup and checkup.is_recent) and "hx-request" not in request.headers),
            versions=_versions(now, workers, checkup),
            settings=shown_settings(face.settings),
            stream=face.settings.stream,
            messages=face.settings.events,
            group=GROUP,
            host=socket.gethostname(),
            pid=os.getpid(),
            bind=face.settings.http_bind,
            up_s=int(time.monotonic() - began),
        )


class _Questions:
    """What the page asks of Redis and catalog."""

    def __init__(self, face: Face) -> None:
        async def at_work() -> Sequence[AtWork]:
            return await face.reader.at_work(MOST_AT_WORK)

        async def versions() -> CatalogVersions:
            return await versions_of(face.stores.catalog.database)

        async def webhooks() -> Sequence[WebhookReport]:
            return await report_webhooks(face.stores.catalog.webhooks, face.settings, MOST_WEBHOOKS)

        self._workers = BoundedQuestion(lambda: living_workers(face))
        self._at_work = BoundedQuestion(at_work)
        self._depth = BoundedQuestion(lambda: queue_depth(face.queue))
        self._versions = BoundedQuestion(versions)
        self._webhooks = BoundedQuestion(webhooks)

    async def ask(self) -> SystemNow:
        """What answers."""
        workers, at_work = _answer(self._workers), _answer(self._at_work)
        depth, versions = _answer(self._depth), _answer(self._versions)
        webhooks = _answer(self._webhooks)
        return SystemNow(*await asyncio.gather(workers, at_work, depth, versions, webhooks))


async def _answer(question: BoundedQuestion[T]) -> T | None:
    """The answer; None where none comes: the doctor says why."""
    try:
        return await question.answer()
    except (Unanswered, Problem):
        return None


def _shown_workers(now: SystemNow, visitor: Visitor) -> Sequence[ShownWorker]:
    """The living workers; those that somebody has to look after come first."""
    shown = [
        _shown_worker(number, one, now.at_work, visitor)
        for number, one in enumerate(in_place(now.workers or ()), 1)
    ]
    return sorted(shown, key=lambda one: _URGENT.index(one.state) if one.state in _URGENT else len(_URGENT))


def _shown_worker(
    number: int, worker: ReportingWorker, at_work: Sequence[AtWork] | None, visitor: Visitor
) -> ShownWorker:
    heartbeat, info = worker.heartbeat, worker.info or _NOTHING_SAID
    if visitor.is_demo:
        name = f"worker {number}"
    else:
        name = f"{info.host}, PID {info.pid}" if info.host and info.pid else heartbeat.instance
    state = info.state or ("unhealthy" if not heartbeat.healthy else "ok")
    if heartbeat.healthy and state == "ok" and heartbeat.degraded:
        state = "degraded"
    return ShownWorker(
        id=sha256(heartbeat.instance.encode()).hexdigest()[:12],
        name=name,
        state="healthy" if state == "ok" else state,
        heartbeat=heartbeat,
        info=info,
        uploads=None if at_work is None else [one for one in at_work if one.holder == info.consumer],
    )


def _orphaned(now: SystemNow, workers: Sequence[ShownWorker]) -> Sequence[AtWork]:
    """Uploads that no worker has that tells of itself: theirs is of an older version, or gone."""
    if now.workers is None or now.at_work is None:
        return []
    known = {one.info.consumer for one in workers}
    return [one for one in now.at_work if one.holder not in known]


def _versions(
    now: SystemNow, workers: Sequence[ShownWorker], checkup: ShownCheckup | None
) -> Sequence[tuple[str, str]]:
    own = version("media-worker")
    said = {one.info.version for one in workers if one.info.version} - {own}
    found = {one.what: one.detail for one in checkup.checkup.findings} if checkup else {}
    redis = found.get("Redis version", "")
    lines: Mapping[str, str] = {
        "media-worker": own,
        "media-worker of other workers": ", ".join(sorted(said)),
        "Python": platform.python_version(),
        "Decoders": "; ".join(sorted({one.info.decoders_version or "" for one in workers} - {""})),
        "Redis": "" if redis.startswith(_UNKNOWN) else redis,
        "Database": now.versions.database if now.versions else "",
        "Schema of the catalog": now.versions.schema if now.versions else "",
    }
    return [(name, text) for name, text in lines.items() if text]
