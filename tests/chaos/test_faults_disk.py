"""A disk that is full, broken, slow to be true or gone, and a catalog that is locked: all of it passes."""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.blobs.local import LocalBlobs
from tests.chaos.conftest import FaultPlaces
from tests.chaos.forking import ForkedWorker
from tests.chaos.place import FaultPlace
from tests.support import processes
from tests.support.catalog_rows import rows_of
from tests.support.workplace import STARTS

BACK_WITHIN_S = 20.0  # the longest pause is 15 s
# Calls of the storage; the first few of each are those of one upload.
WRITES = {"create": 3, "fchmod": 3, "fsync": 8, "mkdir": 3, "rename": 3}
EVERY_TIME = {call: range(1, number + 1) for call, number in WRITES.items()}


def _fault(call: str, error: str, nth: int | None = None) -> dict[str, Any]:
    return {"disk": {"call": call, "errno": error, "nth": nth}}


def _attempts(place: FaultPlace) -> set[int]:
    return {row["attempts"] for row in rows_of(place.catalog, "SELECT attempts FROM uploads")}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _does_not_spin(worker: ForkedWorker, seconds: float) -> Iterator[None]:
    """So many seconds of a fault cost the worker little CPU and few lines."""
    cpu, lines = _cpu_s(worker.pid), len(worker.lines)
    yield
    time.sleep(seconds)
    assert _cpu_s(worker.pid) - cpu < 0.5 * seconds
    assert len(worker.lines) - lines < 10 + 5 * seconds, worker.text


@pytest.mark.fault(32, 33)
@pytest.mark.parametrize(
    ("error", "times"),
    [
        ("ENOSPC", {"create": (2,), "fsync": (4,), "rename": (2,)}),
        pytest.param("ENOSPC", EVERY_TIME, marks=pytest.mark.campaign),
        pytest.param("EIO", EVERY_TIME, marks=pytest.mark.campaign),
    ],
)
@pytest.mark.rotating(2)
def test_a_disk_that_fails_once_at_any_write_delays_an_upload_and_leaves_nothing(
    places: FaultPlaces, error: str, times: Mapping[str, Sequence[int]]
) -> None:
    def fail_at_each(call: str) -> None:
        place = places(call)
        for nth in times[call]:
            worker = place.start_worker(fault=_fault(call, error, nth))
            worker.await_log("healthy")
            worker.arm()
            place.await_state("ready", *place.upload(nth))
            assert worker.stop() == 0
        found = place.check()
        assert found.unreferenced == set()
        assert found.states == {"ready": len(times[call])}

    with ThreadPoolExecutor(len(times)) as pool:
        list(pool.map(fail_at_each, times))


@pytest.mark.fault(32, 35)
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("all", "EIO"),
        pytest.param("create", "EACCES", marks=pytest.mark.campaign),
        pytest.param("create", "EROFS", marks=pytest.mark.campaign),
        pytest.param("fsync", "ENOSPC", marks=pytest.mark.campaign),
    ],
)
@pytest.mark.rotating(2)
def test_a_storage_that_is_down_is_waited_for_and_fails_no_upload(
    place: FaultPlace, call: str, error: str
) -> None:
    worker = place.start_worker(fault=_fault(call, error))
    worker.await_log("healthy")
    worker.arm()
    sources = place.upload(*range(10))
    with _does_not_spin(worker, 3):
        pass
    assert set(place.states().values()) == {"queued"}
    worker.disarm()

    place.await_state("ready", *sources, within=BACK_WITHIN_S)

    assert _attempts(place) == {0}
    assert worker.stop() == 0
    place.check()


@pytest.mark.fault(35)
def test_a_root_that_vanishes_under_a_worker_is_waited_for(place: FaultPlace) -> None:
    worker = place.start_worker()
    place.await_state("ready", *place.upload(1))
    away = place.home / "away"
    place.put("uploads/2.jpg", b"")
    for folder in ("uploads", "variants", "staging"):
        (away / folder).parent.mkdir(exist_ok=True)
        (place.root / folder).rename(away / folder)
    place.send({"source": "uploads/2.jpg"})
    time.sleep(2)
    assert worker.process.poll() is None
    for folder in ("uploads", "variants", "staging"):
        shutil.rmtree(place.root / folder, ignore_errors=True)
        (away / folder).rename(place.root / folder)

    place.await_state("ready", *place.upload(2), within=BACK_WITHIN_S)

    assert worker.stop() == 0
    place.check()


@pytest.mark.fault(26)
def test_an_error_that_stays_ends_as_failed_and_a_person_can_try_again(place: FaultPlace) -> None:
    unreadable = place.put("uploads/1.jpg", b"x")
    # Only its own folders cannot be made: all else that is published goes well.
    worker = place.start_worker(fault=_fault("mkdir", "EIO"), MEDIA_MAX_ATTEMPTS="2")
    worker.await_log("healthy")
    worker.arm()
    place.upload(1)
    place.await_state("failed", unreadable)
    listed = place.media("failed", "list")["uploads"]
    worker.disarm()

    assert place.media("failed", "retry", "--all")["uploads"] == [listed[0]["id"]]

    place.await_state("ready", unreadable)
    assert (listed[0]["attempts"], listed[0]["error"]["code"]) == (2, "storage_unavailable")
    assert worker.stop() == 0
    place.check()


@pytest.mark.fault(29)
@pytest.mark.campaign
def test_a_catalog_that_another_writer_locks_for_long_is_waited_for(place: FaultPlace) -> None:
    worker = place.start_worker()
    place.await_state("ready", *place.upload(0))
    with closing(sqlite3.connect(place.catalog, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sources = place.upload(1, 2, 3)
        with _does_not_spin(worker, 12):  # longer than SQLite's own timeout
            pass
        other.execute("ROLLBACK")

    place.await_state("ready", *sources)

    assert _attempts(place) == {0}
    assert "Traceback" not in worker.text
    assert worker.stop() == 0
    place.check()


@pytest.mark.fault(31)
@pytest.mark.parametrize("kind", ["full", pytest.param("locked", marks=pytest.mark.campaign)])
@pytest.mark.rotating(1)
def test_a_catalog_that_cannot_commit_is_waited_for(place: FaultPlace, kind: str) -> None:
    worker = place.start_worker(fault={"catalog": kind})
    place.await_state("ready", *place.upload(0))
    worker.arm()
    sources = place.upload(1, 2, 3)
    with _does_not_spin(worker, 2):
        pass
    worker.disarm()

    place.await_state("ready", *sources)
    place.await_rest()  # a message that was sent while nothing could be committed is marked later

    assert _attempts(place) == {0}
    assert worker.stop() == 0
    place.check()


@pytest.mark.fault(32)
@pytest.mark.campaign
def test_a_worker_whose_log_cannot_be_written_does_its_work(place: FaultPlace) -> None:
    place.upload(*range(5))
    with open("/dev/full", "w") as full:
        subprocess.run([*STARTS["media"], "--burst"], env=place.env(), stderr=full, timeout=60, check=False)

    assert place.check().states == {"ready": 5}


@pytest.mark.fault(34)
def test_everything_is_durable_before_what_relies_on_it_is_said(place: FaultPlace) -> None:
    trace = place.home / "trace"
    worker = place.start_worker(fault={"trace": str(trace)})
    worker.await_log("healthy")
    worker.arm()
    place.await_state("ready", *place.upload(1))
    worker.stop()
    answer = [line.rsplit(" ", 1)[0] for line in trace.read_text().splitlines()]
    published = answer[answer.index("store before") : answer.index("store after")]

    files = [n for n, line in enumerate(published) if line == "os.fsync-file before"]
    renames = [n for n, line in enumerate(published) if line == "os.rename after"]

    assert (len(files), len(renames)) == (3, 3)
    assert max(files) < min(renames)
    for renamed, end in zip(renames, [*renames[1:], len(published)], strict=True):
        assert "os.fsync-folder before" in published[renamed:end]
    assert answer.index("store after") < answer.index("commit commit") < answer.index("send before")
    assert answer.index("take commit") < answer.index("enqueue before") < answer.index("acknowledge before")
    assert not any(processes.lives(pid) for pid in worker.decoders())


@pytest.mark.fault(46)
async def test_a_file_that_keeps_an_old_date_is_as_young_as_its_arrival(
    local_blobs: LocalBlobs, root: Path
) -> None:
    (root / "uploads").mkdir()
    (root / "uploads/old.jpg").write_bytes(b"moved here with its date")
    os.utime(root / "uploads/old.jpg", (1_577_836_800, 1_577_836_800))

    [info] = [info async for info in local_blobs.list_infos("uploads")]

    assert info.changed_at == pytest.approx(time.time(), abs=60)
