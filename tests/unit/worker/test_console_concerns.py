"""Concerns: what needs somebody, and what does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipelines.stats.growth import Growth
from pipelines.stats.report import QueueDepth, StorageReport, report
from storage.blobs import Space
from storage.totals import Count, StorageTotals, Swept, Total
from worker.http.console.concerns import Concern, Observation, concerns, failures, is_soon_full, retried
from worker.queue.heartbeats import Heartbeat, ReportingWorker, WorkerInfo

GB = 1_000_000_000
ROOMY = Space(100 * GB, 60 * GB, None, 40 * GB)


def worker(name: str, *degraded: str, healthy: bool = True, state: str = "ok") -> ReportingWorker:
    """A worker that lives on the host of that name."""
    heartbeat = Heartbeat(f"{name}:7:x", healthy, "its check failed", degraded)
    return ReportingWorker(heartbeat, WorkerInfo(state=state, host=name, pid=7))


def found(*workers: ReportingWorker, **of_report: object) -> Observation:
    """What is known where those workers live; of the report, that is so."""
    base: StorageReport = report(StorageTotals([], [], []), space=ROOMY)
    return Observation(replace(base, **of_report), workers)  # type: ignore[arg-type]


def told(seen: Observation) -> Sequence[str]:
    """What is said of it."""
    return [f"{one.text}: {one.detail}" for one in concerns(seen)]


def only(seen: Observation) -> Concern:
    """The only concern."""
    [one] = concerns(seen)
    return one


def test_workers_that_are_well_and_a_disk_with_room_need_nobody() -> None:
    assert concerns(found(worker("a"), worker("b"))) == []


@pytest.mark.parametrize("state", ["starting", "stopping"])
def test_a_worker_that_comes_or_goes_needs_nobody(state: str) -> None:
    assert concerns(found(worker("a"), worker("b", healthy=False, state=state))) == []


def test_an_ill_worker_is_named_and_many_are_counted() -> None:
    ill = [worker(name, healthy=False, state="unhealthy") for name in "abcdefg"]

    assert told(found(ill[0])) == ["The worker a:7 is unhealthy: its check failed"]
    assert told(found(*ill))[-1] == "2 more workers are unhealthy: "


def test_what_several_workers_say_alike_is_said_once() -> None:
    seen = found(worker("a", "memory: 91% are taken"), worker("b", "memory: 91% are taken"))

    assert told(seen) == ["Memory is almost used up: 91% are taken (2 workers)"]


@pytest.mark.parametrize("sign", ["space", "queue", "sweep"])
def test_what_the_page_finds_out_itself_is_not_said_again_for_workers(sign: str) -> None:
    assert concerns(found(worker("a", f"{sign}: bad"))) == []


def test_workers_tell_of_backups_where_the_server_does_not_know_when_they_are_due() -> None:
    seen = found(worker("a", "backup: the newest copy is 30 hours old"))

    assert told(seen) == ["Something is wrong with the backups: the newest copy is 30 hours old (a:7)"]
    known = replace(seen, watches_backups=True, backup_problem="the last one failed: no room")
    assert told(known) == ["Something is wrong with the backups: the last one failed: no room"]


def test_events_that_wait_for_over_a_minute_are_urgent() -> None:
    seen = found(worker("a"), queue=QueueDepth(depth=9, oldest_seconds=90, jobs=0, workers=1))

    assert only(seen).is_urgent
    assert told(seen) == ["Events wait: the oldest event has waited for 90 s"]


@pytest.mark.parametrize(("days", "soon"), [(None, False), (0.0, True), (30.0, True), (30.1, False)])
def test_a_disk_that_is_full_within_a_month_needs_somebody(days: float | None, soon: bool) -> None:
    assert is_soon_full(days) is soon


def test_a_disk_that_is_full_soon_is_said_in_days_and_one_that_is_full_in_percent() -> None:
    soon = found(worker("a"), growth=Growth(5 * GB, 12.4))
    full = found(worker("a"), space=Space(100 * GB, 5 * GB, None, 95 * GB), growth=Growth(5 * GB, 1.0))

    assert told(soon)[0].startswith("The disk of the storage is full in 12 days: ")
    assert told(full) == [
        "The disk of the storage is almost full: 95% of its file system are taken; 5.0 GB are free"
    ]
    assert [only(soon).is_urgent, only(full).is_urgent] == [False, True]
    assert concerns(found(worker("a"), growth=Growth(GB, 41.0))) == []


def test_what_keeps_all_from_working_comes_first() -> None:
    seen = replace(found(worker("a", "memory: 91% are taken")), storage_problem="the disk is gone")

    assert [one.is_urgent for one in concerns(seen)] == [True, False]


def test_each_concern_says_what_helps() -> None:
    ill = [worker(name, "memory: 91%", "new: x", healthy=False, state="unhealthy") for name in "abcdefg"]
    swept = Swept("p", 1, Count(9), Count(9), {"missing": Count(2), "orphan": Count(7)}, Count())
    of_sweep = report(StorageTotals([], [], [], swept))
    sweep, drift = of_sweep.sweep, of_sweep.drift
    stopped = report(StorageTotals([], [], [], replace(swept, stopped="too many"))).sweep
    full = Space(100 * GB, 5 * GB, None, 95 * GB)
    waits = QueueDepth(depth=9, oldest_seconds=90, jobs=0, workers=1)
    seen = [
        replace(found(*ill), redis_problem="away", storage_problem="away", backup_problem="old"),
        found(queue=waits, sweep=sweep, drift=drift, space=full),
        found(sweep=stopped, growth=Growth(5 * GB, 12.4)),
        replace(found(), workers=None),
    ]
    said = [one for each in seen for one in concerns(each)]

    assert [one.id for one in said if not one.advice and not one.command] == []
    assert len({one.id for one in said}) > 12


def test_codes_that_are_our_fault_come_first() -> None:
    totals = StorageTotals(
        [
            Total("upload", "failed", "corrupt_image", 0, 19, 0),
            Total("upload", "failed", "storage_full", 0, 2, 0),
            Total("upload", "queued", "storage_full", 0, 2, 0),
            Total("upload", "deleting", "storage_full", 0, 1, 0),
            Total("upload", "processing", "storage_full", 0, 1, 0),
        ],
        [],
        [],
    )

    listed = [(one.code, one.uploads, one.is_ours) for one in failures(report(totals))]
    assert listed == [("storage_full", 2, True), ("corrupt_image", 19, False)]
    assert [(one.uploads, one.path) for one in retried(totals)] == [
        (3, "/console/failures?waiting=1&code=storage_full")
    ]
