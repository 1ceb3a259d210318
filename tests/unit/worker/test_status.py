"""The status of a worker: alive while its loop ticks, ready while no check is ill, degraded beside that."""

import asyncio

import pytest
from structlog.testing import capture_logs

from worker.status import BLOCKED_S, SIGNS, STALE_S, CheckResult, Status

WELL = {"redis": CheckResult(True), "catalog": CheckResult(True)}
ILL = {"redis": CheckResult(False, "it does not answer"), "catalog": CheckResult(None, "not asked")}


class HandClock:
    """A clock that moves when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def status(clock: HandClock) -> Status:
    return Status(clock=clock)


def test_a_worker_lives_for_as_long_as_its_loop_ticks(status: Status, clock: HandClock) -> None:
    clock.now = BLOCKED_S
    assert status.blocked() is None
    clock.now += 1
    assert status.blocked() == "the event loop has been blocked for 31 s"

    status.tick()

    assert status.blocked() is None


def test_a_worker_is_ready_once_its_checks_have_run_and_none_is_ill(status: Status) -> None:
    before = status.readiness()
    status.checked(WELL)

    assert (before.is_ready, before.status, before.reason) == (False, "starting", "the worker is starting")
    assert (status.readiness().is_ready, status.readiness().status) == (True, "ok")


def test_an_ill_check_is_named_and_one_that_could_not_be_made_is_not_ill(status: Status) -> None:
    status.checked(ILL)

    found = status.readiness()

    assert (found.is_ready, found.status, found.reason) == (False, "unhealthy", "redis: it does not answer")
    assert found.document["checks"]["catalog"] == {"ok": None, "reason": "not asked"}


def test_while_a_worker_waits_for_a_server_it_says_for_which(status: Status) -> None:
    status.waits_for("catalog", "Postgres does not answer")

    found = status.readiness()

    assert (found.is_ready, found.status) == (False, "starting")
    assert found.reason == "catalog: Postgres does not answer"


def test_a_worker_that_has_worked_and_waits_is_unhealthy_and_not_starting(status: Status) -> None:
    status.checked(WELL)
    status.waits_for("redis", "Redis does not answer")

    found = status.readiness()

    assert (found.is_ready, found.status) == (False, "unhealthy")
    assert found.reason == "redis: Redis does not answer"


def test_what_is_degraded_is_listed_and_the_worker_stays_ready(status: Status) -> None:
    status.checked(WELL)
    status.found_degraded({"queue": "the oldest event has waited for 61 s"})

    found = status.readiness()

    assert (found.is_ready, found.status) == (True, "degraded")
    assert found.document["degraded"] == {"queue": "the oldest event has waited for 61 s"}


def test_checks_that_hang_say_nothing_any_more(status: Status, clock: HandClock) -> None:
    status.checked(WELL)
    clock.now = STALE_S + 1
    status.tick()

    found = status.readiness()

    assert (found.is_ready, found.reason) == (False, "the checks have not ended for 61 s")


def test_a_blocked_worker_is_not_ready_whatever_its_checks_said(status: Status, clock: HandClock) -> None:
    status.checked(WELL)
    clock.now = BLOCKED_S + 1

    assert not status.readiness().is_ready


@pytest.mark.parametrize(("seconds", "ticks"), [(BLOCKED_S, False), (STALE_S, True)])
def test_while_a_worker_hangs_only_what_is_ill_is_known(
    status: Status, clock: HandClock, seconds: float, ticks: bool
) -> None:
    status.checked(WELL | {"storage": CheckResult(False, "read-only")})
    status.found_degraded({"space": "full"})
    clock.now = seconds
    if ticks:
        status.tick()
    before = (status.health, status.signs)
    clock.now += 0.1

    assert before[0] == {"redis": 1, "catalog": 1, "storage": 0, "sweep": 1, "loop": 1}
    assert before[1] == {**dict.fromkeys(SIGNS, 0), "space": 1}
    assert status.health == {"storage": 0, "loop": 0}
    assert status.signs == {"space": 1}


def test_a_worker_that_waits_for_a_server_or_takes_long_to_stop_does_not_hang(clock: HandClock) -> None:
    stopping = asyncio.Event()
    status = Status(stopping.is_set, clock)
    status.waits_for("catalog", "Postgres does not answer")
    clock.now = STALE_S + 1
    status.tick()
    waiting = status.health
    status.checked(WELL)
    stopping.set()
    clock.now += STALE_S + 1
    status.tick()

    assert waiting == {"catalog": 0, "loop": 1}
    assert status.health["loop"] == status.health["redis"] == 1


def test_a_worker_that_stops_is_not_ready(clock: HandClock) -> None:
    stopping = asyncio.Event()
    status = Status(stopping.is_set, clock)
    status.checked(WELL)
    assert status.readiness().is_ready

    stopping.set()

    assert (status.readiness().is_ready, status.readiness().status) == (False, "stopping")


async def test_a_loop_that_lags_is_a_line_in_the_log(
    status: Status, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.status._TICK_S", 0.001)
    ticking = asyncio.create_task(status.keep_ticking())
    await asyncio.sleep(0)  # its first tick

    with capture_logs() as logged:
        clock.now = 7.5
        while not logged:  # noqa: ASYNC110 (nobody announces a line)
            await asyncio.sleep(0.001)

    ticking.cancel()
    assert logged == [{"event": "event_loop_lagged", "seconds": 7.5, "log_level": "warning"}]
