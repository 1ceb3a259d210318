"""Starting: what ends a worker before it begins, the drain, the health check."""

import os
import subprocess
import sys
import time
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support import pictures, processes
from tests.support.commands import run_installed
from tests.support.job_queues import SHARED
from tests.support.workplace import Workplace

pytestmark = pytest.mark.rotating(5, of="module")

_POLL = f"ZRANGEBYSCORE {SHARED}:"
BOTH = pytest.mark.parametrize("by", ["arq", "media"])


@BOTH
@pytest.mark.rotating(1)
def test_wrong_settings_are_reported_all_at_once_with_exit_code_2(workplace: Workplace, by: str) -> None:
    wrong = {"MEDIA_REDIS_URL": "http://:hunter2@x", "MEDIA_LEASE": "never", "MEDIA_DAMAGED": "perhaps"}

    ended = workplace.run(by, installed=True, MEDIA_STORAGE_URL="s3:bucket", **wrong)

    assert ended.returncode == 2
    assert all(name in ended.stderr for name in [*wrong, "MEDIA_STORAGE_URL"])
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr


def test_a_limit_of_address_space_is_not_called_one_of_threads(workplace: Workplace) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (170 << 20,) * 2); "
        "from scripts.media import main; main()"
    )
    ended = run_installed([sys.executable, "-c", code, "worker", "--burst"], workplace.env(), workplace.home)

    assert ended.returncode == 1
    assert "Raise the limit of address space (LimitAS, ulimit -v), now 170 MiB" in ended.stderr
    assert "TasksMax" not in ended.stderr


def test_importing_the_worker_reads_no_environment() -> None:
    code = "import worker.main; print('imported')"

    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "MEDIA_LEASE": "never"},
        capture_output=True,
        text=True,
    )

    assert ended.stdout == "imported\n"


@pytest.mark.parametrize(
    ("by", "events", "installed"),
    [("arq", 0, False), ("media", 1, True), ("arq", 30, True), ("media", 30, False)],
)
@pytest.mark.rotating(2)
def test_a_burst_drains_the_stream_then_the_jobs_then_ends(
    workplace: Workplace, by: str, events: int, installed: bool
) -> None:
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(events)]
    workplace.send_all({"source": source} for source in sources)

    ended = workplace.run(by, "--burst", installed=installed)

    assert ended.returncode == 0, ended.stderr
    assert workplace.check().states == ({"ready": events} if events else {})


@BOTH
def test_a_worker_with_nothing_to_do_polls_a_few_times_a_second_at_most(
    workplace: Workplace, by: str
) -> None:
    workplace.start(by, MEDIA_RECONCILE_INTERVAL="60")
    redis: Any = workplace.redis

    with redis.monitor() as monitor:
        times = (each["time"] for each in monitor.listen() if each["command"].startswith(_POLL))
        pauses = [later - earlier for earlier, later in pairwise(islice(times, 20))]

    assert max(pauses) > 0.4  # a tick, which every minute has, begins the short ones anew


@pytest.mark.rotating(1)
def test_a_burst_takes_what_a_dead_worker_had_read(workplace: Workplace) -> None:
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(5)]
    workplace.redis.xgroup_create("media:uploads", "workers", id="0", mkstream=True)
    workplace.send_all({"source": source} for source in sources)
    workplace.redis.xreadgroup("workers", "dead", {"media:uploads": ">"}, count=3)

    ended = workplace.run("arq", "--burst")

    assert ended.returncode == 0, ended.stderr
    assert workplace.check().states == {"ready": 5}


@pytest.mark.rotating(1)
def test_a_burst_does_what_a_killed_worker_left(workplace: Workplace) -> None:
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.medium(n)) for n in range(20)]
    worker = workplace.start("media")
    workplace.send_all({"source": source} for source in sources)
    workplace.listen(lambda got: len(got) >= 3)
    worker.kill()

    ended = workplace.run("arq", "--burst")

    assert ended.returncode == 0, ended.stderr
    assert workplace.check().states == {"ready": 20}


@pytest.mark.fault(56)
@pytest.mark.rotating(1)
def test_the_health_check_is_good_with_a_worker_on_this_host_and_bad_without(workplace: Workplace) -> None:
    before = workplace.run("arq", "--check", installed=True)
    first, second = workplace.start("arq"), workplace.start("media")
    during = workplace.run("arq", "--check")
    first.stop()
    after_one_left = workplace.run("arq", "--check")
    second.stop()
    after = workplace.run("arq", "--check")

    codes = [ended.returncode for ended in (before, during, after_one_left, after)]
    assert codes == [1, 0, 0, 1]
    assert "0 events wait" in during.stderr


def test_the_health_check_of_a_redis_that_is_away_fails_without_a_traceback(workplace: Workplace) -> None:
    ended = workplace.run("arq", "--check", MEDIA_REDIS_URL="redis://127.0.0.1:1/0")

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


def _lose_marker(place: Workplace) -> None:
    (place.root / ".media-root.json").unlink()


def _bring_another_root(place: Workplace) -> None:
    (place.root / ".media-root.json").write_text(
        '{"catalog": "0ea1c0de-0000-4000-8000-000000000000", "version": 1}'
    )


def _unmount(place: Workplace) -> None:
    place.root.rename(place.home / "elsewhere")


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("by", "mishap"), [("arq", _lose_marker), ("media", _bring_another_root), ("arq", _unmount)]
)
@pytest.mark.rotating(2)
def test_a_worker_does_not_start_on_a_root_that_is_not_its_catalogs(
    workplace: Workplace, by: str, mishap: object
) -> None:
    assert workplace.run("media", "--burst").returncode == 0
    assert callable(mishap)
    mishap(workplace)
    began = time.monotonic()

    ended = workplace.run(by)

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "cannot_start" in ended.stderr
    assert str(workplace.root) in ended.stderr
    assert time.monotonic() - began < 10


@BOTH
@pytest.mark.rotating(1)
def test_a_worker_that_starts_before_a_volume_is_mounted_is_red_by_name_and_goes_on_when_it_is(
    workplace: Workplace, volume: Path, by: str
) -> None:
    uploads = workplace.root / "uploads"
    uploads.rmdir()
    uploads.symlink_to(volume)
    workplace.put("uploads/a.jpg", pictures.small())
    assert workplace.run("media", "--burst").returncode == 0
    uploads.unlink()
    uploads.mkdir()
    workplace.send({"source": "uploads/a.jpg", "id": str(uuid4())})
    burst = workplace.run("media", "--burst")

    worker = workplace.start(by)
    red = worker.await_log("unhealthy")
    uploads.rmdir()
    uploads.symlink_to(volume)
    [answer] = workplace.await_end_of("uploads/a.jpg").values()

    assert burst.returncode == 1
    assert "Is a disk not mounted?" in burst.stderr
    assert str(uploads) in red["reason"]
    assert answer["type"] == "upload.ready"


@BOTH
def test_a_catalog_that_cannot_be_made_ends_the_start(workplace: Workplace, by: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    ended = workplace.run(by, MEDIA_CATALOG_URL=f"sqlite+aiosqlite:///{tmp_path}/file/catalog.db")

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.rotating(1)
def test_two_workers_that_start_at_once_on_nothing_make_one_catalog(workplace: Workplace) -> None:
    workplace.catalog.unlink()
    source = workplace.put("uploads/a.jpg", pictures.small())
    workers = [workplace.start("arq", ready=False) for _ in range(2)]
    for worker in workers:
        worker.await_log("worker_started")

    workplace.send({"source": source})
    workplace.await_end_of(source)

    assert [worker.stop() for worker in workers] == [0, 0]
    workplace.check()


@BOTH
def test_stopping_an_idle_worker_is_quick_and_leaves_nothing(workplace: Workplace, by: str) -> None:
    worker = workplace.start(by)
    decoders = worker.decoders()
    began = time.monotonic()

    assert worker.stop() == 0
    assert time.monotonic() - began < 10
    assert decoders
    assert not any(processes.lives(pid) for pid in decoders)
    assert workplace.redis.xinfo_consumers("media:uploads", "workers") == []
