"""A Redis that dies, hangs, cuts, refuses, is full, is read-only or forgets everything."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.chaos.conftest import ProxiedPlace, ProxiedPlaces
from tests.chaos.own_redis import OwnRedis
from tests.chaos.place import FaultPlace
from tests.chaos.proxy import Proxy
from tests.support import processes
from tests.support.clients import WITH_SERVICES
from tests.support.workplace import WorkerProcess, eventually

BACK_WITHIN_S = 10.0
RED_WITHIN_S = 30.0
Break = Callable[[OwnRedis, Proxy], None]


def _kill(server: OwnRedis, _proxy: Proxy) -> None:
    server.kill()


def _start(server: OwnRedis, _proxy: Proxy) -> None:
    server.start()


def _freeze(server: OwnRedis, _proxy: Proxy) -> None:
    server.freeze()


def _thaw(server: OwnRedis, _proxy: Proxy) -> None:
    server.thaw()


def _refuse(_server: OwnRedis, proxy: Proxy) -> None:
    proxy.refuse()


def _accept(_server: OwnRedis, proxy: Proxy) -> None:
    proxy.accept()


def _swallow(_server: OwnRedis, proxy: Proxy) -> None:
    proxy.mode = "blackhole"


def _pass(_server: OwnRedis, proxy: Proxy) -> None:
    proxy.mode = "pass"


def _fill(server: OwnRedis, _proxy: Proxy) -> None:
    server.client.config_set("maxmemory", "1")


def _empty(server: OwnRedis, _proxy: Proxy) -> None:
    server.client.config_set("maxmemory", "0")


def _replicate(server: OwnRedis, _proxy: Proxy) -> None:
    server.client.replicaof("127.0.0.1", "1")


def _promote(server: OwnRedis, _proxy: Proxy) -> None:
    server.client.replicaof("NO", "ONE")


def _cannot_save(server: OwnRedis, _proxy: Proxy) -> None:
    (server.folder / "dump.rdb").mkdir()
    server.client.config_set("save", "3600 1")
    server.client.bgsave()
    _await_save(server, "err")


def _can_save(server: OwnRedis, _proxy: Proxy) -> None:
    (server.folder / "dump.rdb").rmdir()
    server.client.bgsave()
    _await_save(server, "ok")


def _await_save(server: OwnRedis, status: str) -> None:
    def saved() -> bool:
        info: Any = server.client.info("persistence")
        return bool(info["rdb_last_bgsave_status"] == status)

    eventually(saved)


AWAY: dict[str, tuple[Break, Break]] = {
    "fault_12_killed": (_kill, _start),
    "fault_12_refused": (_refuse, _accept),
    "fault_09_blackholed": (_swallow, _pass),
    "fault_12_frozen": (_freeze, _thaw),
    "fault_17_full": (_fill, _empty),
    "fault_18_read_only": (_replicate, _promote),
    "fault_18_cannot_save": (_cannot_save, _can_save),
}


@contextmanager
def _away(way: str, proxied: ProxiedPlace) -> Iterator[None]:
    away, back = AWAY[way]
    away(proxied.server, proxied.proxy)
    try:
        yield
    finally:
        back(proxied.server, proxied.proxy)


def _awaits_red(place: FaultPlace) -> float:
    """How long it takes until `arq --check` says that the worker is not well."""
    began = time.monotonic()
    while place.run("arq", "--check").returncode == 0:
        assert time.monotonic() - began < RED_WITHIN_S, "health stays green"
    return time.monotonic() - began


def _warnings(worker: WorkerProcess) -> Counter[str]:
    return Counter(line["event"] for line in worker.log if line.get("level") in ("warning", "error"))


def _is_at_work(place: FaultPlace, number: int) -> None:
    place.await_state("ready", *place.upload(number), within=BACK_WITHIN_S)


def _in_each(
    proxied_places: ProxiedPlaces, ways: Iterable[str], body: Callable[[ProxiedPlace, str], None]
) -> None:
    """Try `body` with each of these ways for a Redis to be away, in places side by side."""
    with ThreadPoolExecutor(len(AWAY)) as pool:
        list(pool.map(lambda way: body(proxied_places(way), way), ways))


@pytest.mark.fault(12, 17, 18)
@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(["fault_12_killed", "fault_12_frozen", "fault_17_full"], id="three"),
        pytest.param(AWAY, id="all", marks=pytest.mark.campaign),
    ],
)
@pytest.mark.rotating(1)
@WITH_SERVICES
def test_the_worker_is_at_work_within_ten_seconds_of_the_return_of_its_redis(
    proxied_places: ProxiedPlaces, ways: Iterable[str]
) -> None:
    def body(proxied: ProxiedPlace, way: str) -> None:
        worker = proxied.place.start_worker()
        _is_at_work(proxied.place, 1)
        with _away(way, proxied):
            time.sleep(3)  # an outage takes its time

        _is_at_work(proxied.place, 2)

        assert worker.stop() == 0, way
        proxied.place.check()

    _in_each(proxied_places, ways, body)


@pytest.mark.fault(17, 56)
@pytest.mark.campaign
def test_health_is_red_while_redis_is_away_and_the_log_has_each_change_once(
    proxied_places: ProxiedPlaces,
) -> None:
    def body(proxied: ProxiedPlace, way: str) -> None:
        worker = proxied.place.start_worker()
        _is_at_work(proxied.place, 1)
        with _away(way, proxied):
            _awaits_red(proxied.place)
            time.sleep(15)
            answer = _warnings(worker)
        _is_at_work(proxied.place, 2)
        eventually(lambda: proxied.place.run("arq", "--check").returncode == 0)

        assert worker.stop() == 0, way
        proxied.place.check()
        repeated[way] = {event: count for event, count in answer.items() if count > 1}

    repeated: dict[str, dict[str, int]] = {}
    _in_each(proxied_places, AWAY, body)
    assert repeated == {way: {} for way in AWAY}


@pytest.mark.fault(56)
@pytest.mark.campaign
def test_a_health_check_whose_redis_is_silent_ends_all_the_same(proxied: ProxiedPlace) -> None:
    proxied.proxy.mode = "blackhole"

    ended = proxied.place.run("arq", "--check")

    assert ended.returncode == 1
    assert "Redis does not answer" in ended.stderr


def test_a_burst_that_loses_its_redis_ends_with_exit_code_1(proxied: ProxiedPlace) -> None:
    proxied.proxy.refuse()

    ended = proxied.place.run("media", "--burst")

    assert ended.returncode == 1
    assert "redis_unavailable" in ended.stderr


@pytest.mark.fault(12)
def test_a_worker_that_was_at_work_waits_for_a_storage_that_is_away_when_redis_comes_back(
    proxied: ProxiedPlace,
) -> None:
    worker = proxied.place.start_worker()
    _is_at_work(proxied.place, 1)
    proxied.proxy.refuse()
    worker.await_log("redis_unavailable")
    elsewhere = proxied.place.home / "elsewhere"
    proxied.place.root.rename(elsewhere)
    proxied.proxy.accept()
    time.sleep(3)
    elsewhere.rename(proxied.place.root)

    _is_at_work(proxied.place, 2)

    assert worker.stop() == 0
    proxied.place.check()


@pytest.mark.fault(13)
def test_a_job_that_cannot_say_that_it_has_finished_is_not_done_twice(proxied: ProxiedPlace) -> None:
    worker = proxied.place.start_worker(fault={"crash": ("commit", "after", 1), "signal": "SIGSTOP"})
    worker.await_log("healthy")
    worker.arm()
    [source] = proxied.place.upload(1)
    proxied.place.await_state("ready", source)
    eventually(lambda: processes.is_frozen(worker.pid))  # or it would be stopped after it was to go on
    proxied.proxy.refuse()
    worker.signal(signal.SIGCONT)
    worker.await_log("redis_unavailable")
    made = {path: path.stat().st_mtime_ns for path in (proxied.place.root / "variants").rglob("*.jpg")}
    proxied.proxy.accept()

    proxied.place.await_rest()

    now = {path: path.stat().st_mtime_ns for path in (proxied.place.root / "variants").rglob("*.jpg")}
    assert now == made
    assert len(made) == 3
    assert worker.stop() == 0
    proxied.place.check()
