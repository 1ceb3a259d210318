"""Workers that are stopped, frozen, blocked or killed while they work, and decoders that are."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.chaos import steps
from tests.chaos.conftest import Grounds, World
from tests.chaos.crashes import cases_of
from tests.chaos.driver import run_chaos
from tests.chaos.ground import Ground
from tests.chaos.nursery import ForkedWorker
from tests.support import pictures, processes
from tests.support.checker import rows_of
from tests.support.nursery import Nursery
from tests.support.workplace import eventually

MORE_S = 20.0  # than undisturbed
_BLAME = "SELECT DISTINCT attempts, crash_count FROM uploads"
Disturbance = Callable[[Ground, ForkedWorker], None]
_UNTOUCHED = [{"attempts": 0, "crash_count": 0}]


def _upload_medium(ground: Ground, count: int) -> list[str]:
    sources = [ground.put(f"uploads/{n}.jpg", pictures.medium(n % 7)) for n in range(count)]
    ground.send_all({"source": source} for source in sources)
    return sources


def _are_under_way(ground: Ground, at_least: int) -> None:
    eventually(lambda: list(ground.states().values()).count("ready") >= at_least)


def test_fault_02_a_decoder_that_is_killed_costs_nobody_an_attempt(ground: Ground) -> None:
    worker = ground.hatch()
    sources = _upload_medium(ground, 15)
    _are_under_way(ground, 3)
    [decoder] = worker.decoders()[:1]
    os.kill(decoder, signal.SIGKILL)

    ground.await_state("ready", *sources)

    assert rows_of(ground.catalog, _BLAME) == _UNTOUCHED
    assert worker.stop() == 0
    ground.check()


def _terminate_at(ground: Ground, case: tuple[str, str, int], number: int) -> None:
    worker = ground.hatch(mischief={"crash": case, "signal": "SIGTERM"})
    worker.await_log("healthy")
    worker.arm()
    ground.upload(number)
    began = time.monotonic()
    assert worker.wait() == 0, worker.text
    assert time.monotonic() - began < 10
    assert not any(processes.lives(pid) for pid in worker.decoders())


@pytest.mark.campaign
def test_fault_06_08_a_sigterm_at_any_step_is_obeyed_and_costs_nobody_anything(grounds: Grounds) -> None:
    ground = grounds("recorded")
    trace = ground.home / "trace"
    worker = ground.hatch(mischief={"trace": str(trace)})
    worker.await_log("healthy")
    worker.arm()
    ground.await_state("ready", *ground.upload(1000))
    eventually(lambda: "mark_sent after" in trace.read_text())
    worker.stop()

    firsts = [case for case in cases_of(trace, steps.UPLOAD) if case[2] == 1]
    for number, case in enumerate(firsts):
        _terminate_at(ground, case, number)
    heir = ground.hatch()
    ground.await_rest()

    assert rows_of(ground.catalog, _BLAME) == _UNTOUCHED
    assert heir.stop() == 0
    assert ground.check().states == {"ready": len(firsts) + 1}


@pytest.mark.parametrize(
    "case",
    [
        ("claim", "commit", 1),
        pytest.param(("job", "before", 1), marks=pytest.mark.campaign),
        pytest.param(("renew", "before", 1), marks=pytest.mark.campaign),
    ],
)
def test_fault_08_a_sigterm_while_a_job_starts_leaves_no_lock_and_no_blame(
    ground: Ground, case: tuple[str, str, int]
) -> None:
    _terminate_at(ground, case, 1)
    heir = ground.hatch()

    ground.await_state("ready", "uploads/1.jpg", within=1 + 5)

    assert rows_of(ground.catalog, _BLAME) == _UNTOUCHED
    assert heir.stop() == 0
    ground.check()


@pytest.mark.campaign
def test_fault_09_a_worker_whose_redis_hangs_ends_at_sigterm_all_the_same(world: World) -> None:
    worker = world.ground.hatch(MEDIA_SHUTDOWN_WAIT="3")
    sources = _upload_medium(world.ground, 20)
    _are_under_way(world.ground, 3)
    world.proxy.mode = "blackhole"
    began = time.monotonic()

    worker.signal(signal.SIGTERM)
    time.sleep(0.5)
    worker.signal(signal.SIGTERM)

    assert worker.wait(25) == 0, worker.text
    assert time.monotonic() - began < 25
    world.proxy.mode = "pass"
    world.ground.hatch()
    world.ground.await_state("ready", *sources)
    world.ground.check()


def test_fault_11_a_worker_whose_loop_was_blocked_for_long_is_fenced(ground: Ground) -> None:
    blocked = ground.hatch(mischief={"slow": 4.0})
    blocked.await_log("healthy")
    blocked.arm()
    [source] = ground.upload(1)
    eventually(lambda: ground.states().get(source) == "processing")
    heir = ground.hatch()

    ground.await_state("ready", source, within=1 + 5)
    blocked.await_log("event_loop_lagged")

    assert [worker.stop() for worker in (blocked, heir)] == [0, 0]
    assert ground.check().unreferenced == set()
    assert rows_of(ground.catalog, "SELECT count(*) AS number FROM variants") == [{"number": 3}]


def _kill(_ground: Ground, victim: ForkedWorker) -> None:
    victim.process.kill()


def _freeze(ground: Ground, victim: ForkedWorker) -> None:
    ground.freeze(victim)


def _leave_alone(_ground: Ground, _victim: ForkedWorker) -> None:
    pass


def _in_the_middle_of_two_hundred(ground: Ground, disturb: Disturbance) -> float:
    """The seconds that two workers take for 200 uploads when one of them is disturbed in their middle."""
    victim, _other = ground.hatch(), ground.hatch()
    began = time.monotonic()
    sources = _upload_medium(ground, 200)
    _are_under_way(ground, 80)
    disturb(ground, victim)
    ground.await_state("ready", *sources, within=120)
    took = time.monotonic() - began
    victim.signal(signal.SIGCONT)
    ground.await_rest()
    ground.hatch()  # as a supervisor does; it also clears away what a dead one had in hand
    assert rows_of(ground.catalog, "SELECT DISTINCT attempts FROM uploads") == [{"attempts": 0}]
    for worker in ground.workers:
        if worker.process.poll() is None:
            assert worker.stop() == 0
    ground.check()
    return took


@pytest.mark.campaign
@pytest.mark.parametrize("disturb", [_kill, _freeze])
def test_fault_01_10_of_two_workers_one_may_die_or_freeze_and_all_is_ready_20_s_later_at_most(
    grounds: Grounds, disturb: Disturbance
) -> None:
    undisturbed = _in_the_middle_of_two_hundred(grounds("undisturbed"), _leave_alone)

    disturbed = _in_the_middle_of_two_hundred(grounds("disturbed"), disturb)

    assert disturbed - undisturbed < MORE_S


@pytest.mark.campaign
def test_fault_01_a_lease_of_15_seconds_brings_back_what_a_killed_worker_had_within_20(
    ground: Ground,
) -> None:
    doomed = ground.hatch(mischief={"crash": ("commit", "before", 1)}, MEDIA_LEASE="15")
    doomed.arm()
    [source] = ground.upload(1)
    doomed.wait()
    heir = ground.hatch(MEDIA_LEASE="15")

    took = ground.await_state("ready", source, within=15 + 5)

    assert took > 5  # the lease was obeyed
    assert heir.stop() == 0
    ground.check()


@pytest.mark.campaign
def test_fault_56_a_frozen_worker_is_told_as_unwell_within_30_seconds(ground: Ground) -> None:
    worker = ground.hatch()
    worker.await_log("healthy")
    assert ground.run("arq", "--check").returncode == 0
    worker.signal(signal.SIGSTOP)
    began = time.monotonic()

    eventually(lambda: ground.run("arq", "--check").returncode == 1, within=30)

    assert time.monotonic() - began < 30
    worker.signal(signal.SIGCONT)
    eventually(lambda: ground.run("arq", "--check").returncode == 0)


def test_fault_54_six_seconds_of_everything_at_once_lose_nothing(ground: Ground, nursery: Nursery) -> None:
    report = run_chaos(
        ground.home / "chaos", uploads=60, seconds=6, workers=2, seed=7, in_full=False, nursery=nursery
    )

    assert sum(report.faults.values()) >= 3
    assert len(report.unexpected) <= report.faults["kill_decoder"]
    assert report.tracebacks == []
    assert report.keys_left == [
        "media:events",
        "media:uploads",
        "media:uploads:catalog",
        "media:uploads:jobs",
    ]
