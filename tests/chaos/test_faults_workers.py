"""Workers that are stopped, frozen, blocked or killed while they work, and decoders that are."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.chaos import steps
from tests.chaos.conftest import FaultPlaces, ProxiedPlace
from tests.chaos.crashes import cases_of
from tests.chaos.driver import run_chaos
from tests.chaos.forking import ForkedWorker
from tests.chaos.place import FaultPlace
from tests.support import pictures, processes
from tests.support.catalog_rows import rows_of
from tests.support.clients import WITH_SERVICES
from tests.support.commands import media
from tests.support.fork_server import CommandForks
from tests.support.ports import free_port
from tests.support.scraping import Scraped
from tests.support.workplace import eventually
from worker.status import BLOCKED_S

MORE_S = 20.0  # than undisturbed
_BLAME = "SELECT DISTINCT attempts, crash_count FROM uploads"
Disturbance = Callable[[FaultPlace, ForkedWorker], None]
_UNTOUCHED = [{"attempts": 0, "crash_count": 0}]


def _upload_medium(place: FaultPlace, count: int) -> list[str]:
    sources = [place.put(f"uploads/{n}.jpg", pictures.medium(n % 7)) for n in range(count)]
    place.send_all({"source": source} for source in sources)
    return sources


def _are_under_way(place: FaultPlace, at_least: int) -> None:
    eventually(lambda: list(place.states().values()).count("ready") >= at_least)


@pytest.mark.fault(2)
def test_a_decoder_that_is_killed_costs_nobody_an_attempt(place: FaultPlace) -> None:
    worker = place.start_worker()
    sources = _upload_medium(place, 15)
    _are_under_way(place, 3)
    [decoder] = worker.decoders()[:1]
    os.kill(decoder, signal.SIGKILL)

    place.await_state("ready", *sources)

    assert rows_of(place.catalog, _BLAME) == _UNTOUCHED
    assert worker.stop() == 0
    place.check()


def _terminate_at(place: FaultPlace, case: tuple[str, str, int], number: int) -> None:
    worker = place.start_worker(fault={"crash": case, "signal": "SIGTERM"})
    worker.await_log("healthy")
    worker.arm()
    place.upload(number)
    began = time.monotonic()
    assert worker.wait() == 0, worker.text
    assert time.monotonic() - began < 10
    assert not any(processes.lives(pid) for pid in worker.decoders())


@pytest.mark.fault(6)
@pytest.mark.campaign
def test_a_sigterm_at_any_step_is_obeyed_and_costs_nobody_anything(places: FaultPlaces) -> None:
    place = places("recorded")
    trace = place.home / "trace"
    worker = place.start_worker(fault={"trace": str(trace)})
    worker.await_log("healthy")
    worker.arm()
    place.await_state("ready", *place.upload(1000))
    eventually(lambda: "mark_sent after" in trace.read_text())
    worker.stop()

    firsts = [case for case in cases_of(trace, steps.UPLOAD) if case[2] == 1]
    for number, case in enumerate(firsts):
        _terminate_at(place, case, number)
    successor = place.start_worker()
    place.await_rest()

    assert rows_of(place.catalog, _BLAME) == _UNTOUCHED
    assert successor.stop() == 0
    assert place.check().states == {"ready": len(firsts) + 1}


@pytest.mark.fault(8)
@pytest.mark.parametrize(
    "case",
    [
        ("claim", "commit", 1),
        pytest.param(("job", "before", 1), marks=pytest.mark.campaign),
        pytest.param(("begin", "after", 1), marks=pytest.mark.campaign),
    ],
)
@pytest.mark.rotating(2)
def test_a_sigterm_while_a_job_starts_leaves_no_lock_and_counts_no_crash(
    place: FaultPlace, case: tuple[str, str, int]
) -> None:
    _terminate_at(place, case, 1)
    successor = place.start_worker()

    place.await_state("ready", "uploads/1.jpg", within=1 + 5)

    assert rows_of(place.catalog, _BLAME) == _UNTOUCHED
    assert successor.stop() == 0
    place.check()


@pytest.mark.fault(9)
@pytest.mark.campaign
def test_a_worker_whose_redis_hangs_ends_at_sigterm_all_the_same(proxied: ProxiedPlace) -> None:
    worker = proxied.place.start_worker(MEDIA_SHUTDOWN_WAIT="3")
    sources = _upload_medium(proxied.place, 20)
    _are_under_way(proxied.place, 3)
    proxied.proxy.mode = "blackhole"
    began = time.monotonic()

    worker.signal(signal.SIGTERM)
    time.sleep(0.5)
    worker.signal(signal.SIGTERM)

    assert worker.wait(25) == 0, worker.text
    assert time.monotonic() - began < 25
    proxied.proxy.mode = "pass"
    proxied.place.start_worker()
    proxied.place.await_state("ready", *sources)
    proxied.place.check()


@pytest.mark.fault(11)
def test_a_worker_whose_loop_was_blocked_for_long_is_fenced(place: FaultPlace) -> None:
    blocked = place.start_worker(fault={"slow": 4.0})
    blocked.await_log("healthy")
    blocked.arm()
    [source] = place.upload(1)
    eventually(lambda: place.states().get(source) == "processing")
    successor = place.start_worker()

    place.await_state("ready", source, within=1 + 5)
    blocked.await_log("event_loop_lagged")

    assert [worker.stop() for worker in (blocked, successor)] == [0, 0]
    assert place.check().unreferenced == set()
    assert rows_of(place.catalog, "SELECT count(*) AS number FROM variants") == [{"number": 3}]


@pytest.mark.parametrize("seconds", [1.5, pytest.param(BLOCKED_S + 3, marks=pytest.mark.campaign)])
def test_a_worker_whose_loop_is_blocked_answers_probes_and_does_not_live_any_more(
    place: FaultPlace, seconds: float
) -> None:
    """In the suite it is blocked for less than what counts, and lives."""
    port = free_port()
    at = f"127.0.0.1:{port}"
    probe = {"HOME": str(place.home), "MEDIA_METRICS": at}
    media(probe, "--version")  # what is timed is the probe, not the first import
    worker = place.start_worker(fault={"slow": seconds}, MEDIA_METRICS=at)
    worker.await_log("healthy")
    worker.arm()
    place.upload(1)
    eventually(lambda: place.states().get("uploads/1.jpg") == "processing")
    began = time.monotonic()
    first = media(probe, "health", "--live")
    took = time.monotonic() - began

    time.sleep(max(0.0, seconds - 1 - (time.monotonic() - began)))
    last = media(probe, "health", "--live")
    told = Scraped(port).value("media_health", check="loop")

    assert (first.stdout, took < seconds) == ("alive\n", True)  # it did not wait for the loop
    assert (last.returncode == 1, "blocked" in last.stdout) == (seconds > BLOCKED_S, seconds > BLOCKED_S)
    assert told == (seconds <= BLOCKED_S)
    worker.await_log("event_loop_lagged", within=seconds + 5)
    assert media(probe, "health", "--live").returncode == 0


def _kill(_place: FaultPlace, victim: ForkedWorker) -> None:
    victim.process.kill()


def _freeze(place: FaultPlace, victim: ForkedWorker) -> None:
    place.freeze(victim)


def _leave_alone(_place: FaultPlace, _victim: ForkedWorker) -> None:
    pass


def _in_the_middle_of_two_hundred(place: FaultPlace, disturb: Disturbance) -> float:
    """The seconds that two workers take for 200 uploads when one of them is disturbed in their middle."""
    victim, _other = place.start_worker(), place.start_worker()
    began = time.monotonic()
    sources = _upload_medium(place, 200)
    _are_under_way(place, 80)
    disturb(place, victim)
    place.await_state("ready", *sources, within=120)
    took = time.monotonic() - began
    victim.signal(signal.SIGCONT)
    place.await_rest()
    place.start_worker()  # as a supervisor does; it also clears away what a dead one had in hand
    assert rows_of(place.catalog, "SELECT DISTINCT attempts FROM uploads") == [{"attempts": 0}]
    for worker in place.workers:
        if worker.process.poll() is None:
            assert worker.stop() == 0
    place.check()
    return took


@pytest.mark.fault(1)
@pytest.mark.campaign
@pytest.mark.parametrize("disturb", [_kill, _freeze])
def test_of_two_workers_one_may_die_or_freeze_and_all_is_ready_20_s_later_at_most(
    places: FaultPlaces, disturb: Disturbance
) -> None:
    undisturbed = _in_the_middle_of_two_hundred(places("undisturbed"), _leave_alone)

    disturbed = _in_the_middle_of_two_hundred(places("disturbed"), disturb)

    assert disturbed - undisturbed < MORE_S


@pytest.mark.campaign
def test_a_lease_of_15_seconds_brings_back_what_a_killed_worker_had_within_20(
    place: FaultPlace,
) -> None:
    victim = place.start_worker(fault={"crash": ("commit", "before", 1)}, MEDIA_LEASE="15")
    victim.arm()
    [source] = place.upload(1)
    victim.wait()
    successor = place.start_worker(MEDIA_LEASE="15")

    took = place.await_state("ready", source, within=15 + 5)

    assert took > 5  # the lease was obeyed
    assert successor.stop() == 0
    place.check()


@pytest.mark.fault(56)
@pytest.mark.campaign
def test_a_frozen_worker_is_reported_as_unhealthy_within_30_seconds(place: FaultPlace) -> None:
    worker = place.start_worker()
    worker.await_log("healthy")
    assert place.run("arq", "--check").returncode == 0
    worker.signal(signal.SIGSTOP)
    began = time.monotonic()

    eventually(lambda: place.run("arq", "--check").returncode == 1, within=30)

    assert time.monotonic() - began < 30
    worker.signal(signal.SIGCONT)
    eventually(lambda: place.run("arq", "--check").returncode == 0)


@pytest.mark.fault(54)
@WITH_SERVICES
def test_four_seconds_of_everything_at_once_lose_nothing(
    place: FaultPlace, fork_server: CommandForks
) -> None:
    report = run_chaos(
        place.home / "chaos", uploads=40, seconds=4, workers=2, seed=7, in_full=False, fork_server=fork_server
    )

    assert sum(report.faults.values()) >= 3
    assert len(report.unexpected) <= report.faults["kill_decoder"]
    assert (report.questions > 0, report.wrong_answers) == (True, [])
    assert report.tracebacks == []
    assert report.keys_left == ["media:events", "media:limits", "media:uploads", "media:uploads:catalog"]
