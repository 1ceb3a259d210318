"""Concerns: what of all that was found needs somebody. The only place that decides it for the console."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pipelines.stats.report import Coded, StorageReport
from storage.totals import Count, StorageTotals
from worker.degradation import full, long_wait
from worker.http.console.paths import ROOT, with_query
from worker.http.console.wording import count, duration, size
from worker.queue.heartbeats import ReportingWorker
from worker.retry import blame_of

SOON_FULL_DAYS = 30.0
_MOST_WORKERS = 5  # that are named one by one
_BACKUP = "Something is wrong with the backups"
_WORDS = {
    "catalog_log": "The log beside the catalog's file is large",
    "memory": "Memory is almost used up",
    "backup": _BACKUP,
    "webhooks": "The endpoint of webhooks takes no messages",
}
_ADVICE = {
    "catalog_log": "Something reads the catalog for very long, such as a copy or a shell: end it.",
    "memory": "Raise MEDIA_MEMORY_MB, or have fewer decoders: MEDIA_CPUS",
    "backup": "The logs of the workers say why (backup_failed). To make a copy now: media backup",
    "webhooks": "System says why. All that waits goes out by itself once the endpoint takes messages.",
}
"""What helps against what workers say of themselves."""
_MAKE_AGAIN = "media reprocess --missing"
_OF_REDIS = "Start Redis, or correct MEDIA_REDIS_URL. Workers go on by themselves once it answers."
_OF_STORAGE = "Mount its disk, or see why the bucket does not answer. Workers go on by themselves then."
_OF_QUEUE = (
    "Workers are too few, or hold back: System says what they do. Another one is started by: media worker"
)
_OF_SPACE = "Take a larger disk, or make room: Storage says what grows. media sweep purge empties the trash."
_OF_SWEEP = "as of the last sweep"
_SEEN_HERE = ("queue", "sweep", "space")  # what this page finds out by itself, whoever says so
_PUT_OFF = ("queued", "deleting")
_AT_REST = ("starting", "stopping")


@dataclass(frozen=True)
class Concern:
    """Something that needs somebody: in words, where more of it is seen, and whether nothing works till then.

    `detail` is text from elsewhere; `command` is what helps, or `advice`; `number` is what its list has.
    """

    id: str
    text: str
    path: str = ""
    detail: str = ""
    command: str = ""
    is_urgent: bool = True
    number: int | None = None
    advice: str = ""

    @property
    def without_detail(self) -> Self:
        """The same for those who may know that something is wrong, and neither why nor what helps."""
        return replace(self, detail="", advice="")


@dataclass(frozen=True)
class CodedUploads:
    """Uploads with one error code: how many, where their list is, and whether the fault is ours."""

    code: str
    uploads: int
    path: str
    is_ours: bool


@dataclass(frozen=True)
class Observation:
    """All that was found out; None is what did not answer, for the reason beside it."""

    report: StorageReport
    workers: Sequence[ReportingWorker] | None
    redis_problem: str = ""
    storage_problem: str = ""
    backup_problem: str | None = None
    watches_backups: bool = False
    """Whether this server knows when copies are due; else the workers say whether they are."""


def concerns(seen: Observation, *, is_new: bool = False) -> Sequence[Concern]:
    """What needs somebody, the most urgent first; of the machines and the storage, not of pictures.

    Where an installation is new, its first steps say that a worker is needed.
    """
    found = [
        *_of_parts(seen),
        *_of_workers(seen, is_new=is_new),
        *_of_queue(seen.report),
        *_of_space(seen.report),
        *_of_sweep(seen.report),
        *_of_backups(seen),
        *_of_signs(seen),
    ]
    return sorted(found, key=lambda concern: not concern.is_urgent)


def without_names(seen: Observation) -> Observation:
    """The same, with workers that are known by their numbers alone."""
    if seen.workers is None:
        return seen
    numbered = [
        replace(
            one,
            heartbeat=replace(one.heartbeat, instance=str(number)),
            info=one.info.model_copy(update={"host": None}) if one.info else None,
        )
        for number, one in enumerate(in_place(seen.workers), 1)
    ]
    return replace(seen, workers=numbered)


def is_soon_full(days: float | None) -> bool:
    """Whether a disk that is full in so many days needs somebody; None: nobody knows when."""
    return days is not None and days <= SOON_FULL_DAYS


def failures(report: StorageReport) -> Sequence[CodedUploads]:
    """Failed uploads by code, those that are our fault first."""
    return _coded(report.failures, f"{ROOT}/failures")


def retried(totals: StorageTotals) -> Sequence[CodedUploads]:
    """Uploads that wait for another try, by what stopped the last."""
    codes = totals.grouped("upload", lambda total: total.detail if total.name in _PUT_OFF else "")
    found = [Coded(code, amount.count) for code, amount in codes.items() if code and amount.count]
    most_first = sorted(found, key=lambda one: (-one.uploads, one.code))
    return _coded(most_first, f"{ROOT}/failures", waiting="1")


def _coded(found: Sequence[Coded], path: str, **query: str) -> Sequence[CodedUploads]:
    links = [
        CodedUploads(
            one.code, one.uploads, with_query(path, **query, code=one.code), blame_of(one.code) == "us"
        )
        for one in found
    ]
    return sorted(links, key=lambda one: not one.is_ours)


def _of_parts(seen: Observation) -> Iterator[Concern]:
    if seen.redis_problem:
        text = "Redis cannot be asked what waits, and which workers live"
        yield Concern("redis", text, f"{ROOT}/system", seen.redis_problem, advice=_OF_REDIS)
    if seen.storage_problem:
        text = "The storage does not answer"
        yield Concern("storage", text, f"{ROOT}/system", seen.storage_problem, advice=_OF_STORAGE)


def _of_workers(seen: Observation, *, is_new: bool) -> Iterator[Concern]:
    workers = seen.workers
    if workers is None:
        if not seen.redis_problem:
            text = "Redis is back, and no worker has told of itself since"
            advice = "A living one does within seconds."
            yield Concern("workers", text, f"{ROOT}/system", is_urgent=False, advice=advice)
        return
    if not workers and not is_new:
        text = "No worker is alive: nobody works on uploads. Start one:"
        yield Concern("workers", text, f"{ROOT}/system", command="media worker")
    ill = [one for one in workers if not one.heartbeat.healthy and _state_of(one) not in _AT_REST]
    for worker in ill[:_MOST_WORKERS]:
        detail = "; ".join(worker.info.failing) if worker.info and worker.info.failing else ""
        yield Concern(
            f"worker-{worker.heartbeat.instance}",
            f"The worker {worker.name} is unhealthy",
            f"{ROOT}/system",
            detail or worker.heartbeat.detail,
            advice="Its log says more. It goes on by itself once its checks are well.",
        )
    if len(ill) > _MOST_WORKERS:
        text = f"{count(len(ill) - _MOST_WORKERS)} more workers are unhealthy"
        yield Concern("more-workers", text, f"{ROOT}/system", advice="System says of each what fails.")


def _of_queue(report: StorageReport) -> Iterator[Concern]:
    if report.queue and (reason := long_wait(report.queue.oldest_seconds)):
        yield Concern("queue", "Events wait", f"{ROOT}/system", reason, advice=_OF_QUEUE)


def _of_space(report: StorageReport) -> Iterator[Concern]:
    space, days = report.space, report.growth.days_until_full
    if space is None:
        return
    if reason := full(space.used_bytes, space.free_bytes):
        free = f"{size(space.free_bytes)} are free"
        text = "The disk of the storage is almost full"
        yield Concern("space", text, f"{ROOT}/storage", f"{reason}; {free}", advice=_OF_SPACE)
    elif days is not None and is_soon_full(days):
        text = f"The disk of the storage is full in {duration(days * 86_400)}"
        detail = f"as fast as it grows now; {size(space.free_bytes)} are free"
        yield Concern("space", text, f"{ROOT}/storage", detail, is_urgent=False, advice=_OF_SPACE)


def _of_sweep(report: StorageReport) -> Iterator[Concern]:
    sweep = report.sweep
    if sweep is None:
        return
    path = f"{ROOT}/sweeps/{sweep.plan}" if sweep.plan else f"{ROOT}/storage"
    if sweep.stopped:
        advice = "Look at its plan: if it is right, apply it; else find what is gone."
        yield Concern("sweep", "The last sweep was stopped", path, sweep.stopped, advice=advice)
    if report.drift is None or sweep.applied:  # what a plan named was dealt with
        return
    found = report.drift.findings
    if missing := _count_of(found, "missing"):
        text = (
            f"{count(missing)} files of variants are missing"
            if missing > 1
            else "A file of a variant is missing"
        )
        missing_path = with_query(path, kind="missing")
        yield Concern("missing", text, missing_path, _OF_SWEEP, number=missing, command=_MAKE_AGAIN)
    orphans = _count_of(found, "orphan")
    if orphans and not sweep.stopped:
        text = f"{count(orphans)} files have no record" if orphans > 1 else "A file has no record"
        path = with_query(path, kind="orphan")
        advice = "Their plan moves them to the trash, from where they can come back."
        yield Concern("orphans", text, path, _OF_SWEEP, is_urgent=False, number=orphans, advice=advice)


def _count_of(found: Mapping[str, Count], kind: str) -> int:
    return found[kind].count if kind in found else 0


def _of_backups(seen: Observation) -> Iterator[Concern]:
    if seen.backup_problem:
        yield Concern("backup", _BACKUP, f"{ROOT}/system", seen.backup_problem, advice=_ADVICE["backup"])


def _of_signs(seen: Observation) -> Iterator[Concern]:
    """What workers say of themselves, each sign and reason once."""
    known = (*_SEEN_HERE, "backup") if seen.watches_backups else _SEEN_HERE
    said: dict[str, list[str]] = {}
    for worker in seen.workers or ():
        for sign in worker.heartbeat.degraded:
            if sign.partition(": ")[0] not in known:
                said.setdefault(sign, []).append(worker.name)
    for sign, names in said.items():
        word, _, reason = sign.partition(": ")
        who = names[0] if len(names) == 1 else f"{count(len(names))} workers"
        text = _WORDS.get(word, word)
        detail, advice = f"{reason} ({who})", _ADVICE.get(word, "The log of that worker says more.")
        yield Concern(
            f"sign-{word}-{names[0]}", text, f"{ROOT}/system", detail, is_urgent=False, advice=advice
        )


def in_place(workers: Iterable[ReportingWorker]) -> Sequence[ReportingWorker]:
    """Workers in the order of their hosts and processes, in which those without a name are numbered."""

    def place(one: ReportingWorker) -> tuple[str, int, str]:
        host, pid = (one.info.host, one.info.pid) if one.info else (None, None)
        return host or "", pid or 0, one.heartbeat.instance

    return sorted(workers, key=place)


def _state_of(worker: ReportingWorker) -> str | None:
    return worker.info.state if worker.info else None
