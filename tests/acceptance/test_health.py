"""The health of a real worker, as probes and `media health` are told it, whatever happens to the worker."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from storage.catalog.opening import open_catalog
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import MEDIA, Ended, media
from tests.support.elsewhere import ahead_by
from tests.support.ports import free_port
from tests.support.redis_urls import by_port
from tests.support.tcp_proxy import TcpProxy
from tests.support.workplace import Workplace, eventually

pytestmark = pytest.mark.rotating(8, of="module")

CPU_S, PEAK_KIB = 0.15, 25 * 1024
# By a small process: what is forked from a large one has its peak.
MEASURE = """
import resource, subprocess, sys
print(subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True).stdout)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


@pytest.fixture
def place(workplace: Workplace) -> Workplace:
    """One whose workers serve probes."""
    workplace.settings["MEDIA_METRICS"] = f"127.0.0.1:{free_port()}"
    return workplace


@pytest.fixture
def proxy(place: Workplace) -> Iterator[TcpProxy]:
    """What stands before Redis."""
    with closing(TcpProxy(urlsplit(place.redis_url).port or 0)) as between:
        place.settings["MEDIA_REDIS_URL"] = by_port(place.redis_url, between.port)
        yield between


def probed(place: Workplace, path: str) -> tuple[int, Any]:
    try:
        with urlopen(f"http://{place.settings['MEDIA_METRICS']}/{path}", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def health(place: Workplace, *options: str) -> Ended:
    """`media health`, as it is installed."""
    env = {"PATH": os.environ["PATH"], "MEDIA_ENV_FILE": "", "MEDIA_METRICS": place.settings["MEDIA_METRICS"]}
    return subprocess.run(
        [MEDIA, "health", *options], env=env, cwd=place.home, capture_output=True, text=True, timeout=30
    )


def metrics(place: Workplace) -> str:
    with urlopen(f"http://{place.settings['MEDIA_METRICS']}/metrics", timeout=10) as answer:
        page: bytes = answer.read()
    return page.decode()


async def stop_a_sweep(catalog: Path) -> None:
    async with open_catalog(f"sqlite+aiosqlite:///{catalog}") as opened:
        await opened.sweeps.note_stop("too many orphans")


def is_ready(place: Workplace) -> bool:
    return probed(place, "readyz")[0] == 200


@pytest.mark.rotating(1)
def test_a_worker_is_ready_until_it_is_killed(place: Workplace) -> None:
    worker = place.start()
    eventually(lambda: is_ready(place))
    ready, alive, told = health(place), health(place, "--live"), health(place, "--json")
    worker.kill()
    killed = health(place, "--live")

    assert (ready.returncode, ready.stdout, ready.stderr) == (0, "ready\n", "")
    assert (alive.returncode, alive.stdout) == (0, "alive\n")
    assert json.loads(told.stdout)["checks"]["catalog"] == {"ok": True, "reason": None}
    assert killed.returncode == 1
    assert killed.stdout.startswith("unreachable: no worker answers at 127.0.0.1:")


def test_a_worker_whose_redis_is_away_lives_and_is_not_ready_until_it_is_back(
    place: Workplace, proxy: TcpProxy
) -> None:
    worker = place.start()
    eventually(lambda: is_ready(place))
    proxy.refuse()
    eventually(lambda: not is_ready(place))
    worker.await_log("redis_unavailable")
    eventually(lambda: set(probed(place, "readyz")[1]["checks"]) == {"redis"})  # it tries to start again
    alive, ill, said = probed(place, "healthz"), probed(place, "readyz"), health(place)
    proxy.accept()
    eventually(lambda: is_ready(place))

    assert alive == (200, {"status": "ok", "reason": None})
    assert ill[0] == 503
    assert ill[1]["checks"]["redis"]["ok"] is False
    assert ill[1]["status"] == "unhealthy"
    assert ill[1]["reason"].startswith("redis: Redis does not answer")
    assert said.returncode == 1
    assert "redis: " in said.stdout
    assert len(worker.logged("metrics_served")) == 1  # it was there all the time
    assert worker.stop() == 0


@pytest.mark.parametrize("by", ["arq", "media"])
def test_a_worker_that_waits_for_its_catalog_lives_and_says_what_it_waits_for(
    place: Workplace, by: str
) -> None:
    place.settings["MEDIA_CATALOG_URL"] = "postgresql+asyncpg://media:hunter2@127.0.0.1:1/media"
    worker = place.start(by, ready=False)
    worker.await_log("unhealthy")

    code, told = probed(place, "readyz")

    assert probed(place, "healthz")[0] == 200
    assert (code, told["status"]) == (503, "starting")
    assert told["reason"].startswith("catalog: nobody listens where the catalog")
    assert "hunter2" not in str(told)
    assert worker.stop() == 0


def test_a_worker_that_is_stopping_lives_and_takes_no_more_work(place: Workplace) -> None:
    place.send({"source": place.put("uploads/a.jpg", pictures.medium())})
    worker = place.start()
    place.await_end_of("uploads/a.jpg")
    [decoder] = worker.decoders()
    os.kill(decoder, signal.SIGSTOP)
    place.send({"source": place.put("uploads/b.jpg", pictures.medium(1))})
    eventually(lambda: place.check(settled=False).states.get("processing") == 1)

    worker.signal(signal.SIGTERM)
    eventually(lambda: probed(place, "readyz")[1]["status"] == "stopping")
    alive, stopping = health(place, "--live"), health(place)
    os.kill(decoder, signal.SIGCONT)

    assert alive.returncode == 0
    assert (stopping.returncode, stopping.stdout) == (1, "stopping: the worker is stopping\n")
    assert worker.wait() == 0


def test_a_worker_that_gets_no_cpu_at_all_does_not_live(place: Workplace) -> None:
    worker = place.start()
    worker.signal(signal.SIGSTOP)

    frozen = health(place, "--live")

    assert frozen.returncode == 1
    assert "nothing came in time" in frozen.stdout


@pytest.mark.parametrize("by", ["arq", "media"])
def test_a_worker_whose_port_is_taken_says_so_and_does_not_start(place: Workplace, by: str) -> None:
    first = place.start()

    second = place.run(by)

    assert second.returncode == 1
    assert "is in use, perhaps by another worker" in second.stderr
    assert "Traceback" not in second.stderr
    assert health(place, "--live").returncode == 0
    assert first.stop() == 0


def test_a_burst_beside_a_worker_does_its_work_without_probes(place: Workplace) -> None:
    place.start()

    ended = place.run("media", "--burst")

    assert ended.returncode == 0
    assert "metrics_not_served" in ended.stderr


def test_metrics_tell_what_is_ill_by_check(place: Workplace) -> None:
    place.start()
    eventually(lambda: is_ready(place))

    page = metrics(place)

    assert 'media_health{check="catalog"} 1.0' in page
    assert 'media_health{check="sweep"} 1.0' in page
    assert 'media_health{check="loop"} 1.0' in page
    assert 'media_degraded{sign="queue"} 0.0' in page
    assert "media_event_loop_lag_seconds_count" in page


def test_a_worker_whose_last_sweep_was_stopped_is_degraded_everywhere_and_ready(place: Workplace) -> None:
    asyncio.run(stop_a_sweep(place.catalog))
    place.start().await_log("degraded")
    eventually(lambda: probed(place, "readyz")[1]["status"] == "degraded")
    eventually(lambda: 'media_degraded{sign="sweep"} 1.0' in metrics(place))

    code, told = probed(place, "readyz")
    said = health(place)

    assert (code, told["degraded"]) == (200, {"sweep": "the last one was stopped: too many orphans"})
    assert 'media_health{check="sweep"} 0.0' in metrics(place)
    assert (said.returncode, said.stdout) == (
        0,
        "degraded: sweep: the last one was stopped: too many orphans\n",
    )
    eventually(lambda: "1 of 1 degraded: sweep" in media(place.env(), "doctor").stdout)


@WITH_SERVICES
def test_a_backup_that_failed_is_told_at_once_and_forgotten_once_a_copy_is_made(place: Workplace) -> None:
    place.settings |= {"MEDIA_BACKUP": str(place.home / "gone/backup"), "MEDIA_BACKUP_CRON": "* * * * *"}
    place.settings |= ahead_by(54 - int(time.time()) % 60)  # shortly before a minute, by its clock
    worker = place.start()

    failed = worker.await_log("backup_failed")["reason"]
    worker.await_log("degraded", within=30)
    eventually(lambda: probed(place, "readyz")[1]["status"] == "degraded")
    told = probed(place, "readyz")[1]["reason"], health(place).stdout, media(place.env(), "doctor").stdout
    (place.home / "gone").mkdir()
    assert media(place.env(), "backup").returncode == 0

    assert failed == f"{place.home}/gone is not there: is a disk not mounted?"
    assert all(f"the last one failed: {failed}" in one for one in told)
    worker.await_log("no_longer_degraded", within=30)
    eventually(lambda: 'media_degraded{sign="backup"} 0.0' in metrics(place))


def test_media_health_costs_little_cpu_and_memory(place: Workplace) -> None:
    place.start()
    eventually(lambda: is_ready(place))
    env = {"PATH": os.environ["PATH"], "MEDIA_METRICS": place.settings["MEDIA_METRICS"]}
    health(place)  # which compiles what is imported

    measured = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURE, MEDIA, "health"],
        env=env,
        cwd=place.home,
        stdout=subprocess.PIPE,
        text=True,
    )
    said, cpu_s, peak_kib = measured.stdout.split()

    assert said == "ready"
    assert float(cpu_s) < CPU_S
    assert int(peak_kib) < PEAK_KIB


def test_media_health_finds_the_port_in_the_files_that_the_worker_reads(place: Workplace) -> None:
    place.start()
    eventually(lambda: is_ready(place))
    (place.home / "my.env").write_text(f"MEDIA_METRICS={place.settings['MEDIA_METRICS']}\n")
    env = {"HOME": str(place.home), "MEDIA_ENV_FILE": str(place.home / "my.env")}

    ended = media(env, "health")

    assert (ended.returncode, ended.stdout) == (0, "ready\n")


def test_without_a_port_media_health_asks_redis_and_says_how_to_be_quicker(workplace: Workplace) -> None:
    worker = workplace.start()
    worker.await_log("healthy")
    ready, alive = media(workplace.env(), "health"), media(workplace.env(), "health", "--live")
    worker.stop()
    gone = media(workplace.env(), "health", "--json")

    assert (ready.returncode, ready.stdout) == (0, "ready: 0 events wait\n")
    assert "MEDIA_METRICS=127.0.0.1:8469" in ready.stderr
    assert (alive.returncode, alive.stdout) == (0, "alive\n")
    assert "MEDIA_METRICS=127.0.0.1:8469" in alive.stderr
    assert gone.returncode == 1
    assert json.loads(gone.stdout)["reason"] == "no worker is alive here; 0 elsewhere"


def test_without_a_port_a_worker_that_waits_for_its_catalog_lives_until_it_is_killed(
    workplace: Workplace,
) -> None:
    nowhere = {"MEDIA_CATALOG_URL": "postgresql+asyncpg://media:hunter2@127.0.0.1:1/media"}
    worker = workplace.start(ready=False, **nowhere)
    worker.await_log("unhealthy")
    env = workplace.env(**nowhere, MEDIA_METRICS="")
    alive, ready = media(env, "health", "--live"), media(env, "health")
    worker.kill()
    killed = media(env, "health", "--live", "--json")

    assert (alive.returncode, alive.stdout, ready.returncode) == (0, "alive\n", 1)
    assert killed.returncode == 1
    assert json.loads(killed.stdout) == {
        "status": "unhealthy",
        "reason": "no worker sends heartbeats here; 0 elsewhere",
    }


def test_without_a_port_nobody_counts_as_dead_while_redis_is_away_or_hangs(workplace: Workplace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        told = [
            media(workplace.env(MEDIA_REDIS_URL=url), "health", "--live")
            for url in ("redis://127.0.0.1:1/0", hanging)
        ]

    assert [ended.returncode for ended in told] == [0, 0]
    assert [ended.stdout.partition(":")[0] for ended in told] == ["unknown", "unknown"]
    assert "does not answer within 2 s" in told[1].stdout


def test_a_wrong_setting_is_refused_by_name_alike(workplace: Workplace, tmp_path: Path) -> None:
    worker = workplace.run("media", MEDIA_METRICS="::1:8469")
    probe = media({"HOME": str(tmp_path), "MEDIA_METRICS": "::1:8469"}, "health")

    for ended in (worker, probe):
        assert ended.returncode == 2
        assert "MEDIA_METRICS: must be HOST:PORT" in ended.stderr
        assert "in brackets" in ended.stderr


def test_what_is_no_worker_is_told_from_one(tmp_path: Path) -> None:
    with closing(TcpProxy(1)) as nobody:
        ended = media({"HOME": str(tmp_path), "MEDIA_METRICS": f"127.0.0.1:{nobody.port}"}, "health")

    assert ended.returncode == 1
    assert "is no worker" in ended.stdout
