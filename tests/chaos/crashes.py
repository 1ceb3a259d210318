"""Dying at each step of a way: they are recorded once, then died at one by one."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.forking import ForkedWorker
from tests.chaos.place import Case, FaultPlace
from tests.chaos.steps import Step
from tests.support.workplace import TIMEOUT_S

AT_ONCE = 8  # places, for most of the time they wait
WITHIN_S = 1 + 5.0  # the lease, and five seconds
_LAST_STEPS_S = 2.0  # what comes after the work is done: the message, the job's end


def _nothing(_place: FaultPlace, _number: int) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    """A kind of work: what it needs, what sets the n-th of it going, when that is done; and who does it."""

    way: Mapping[str, Step]
    is_done: Callable[[FaultPlace, int], bool]
    prepare: Callable[[FaultPlace, int], None] = _nothing
    send: Callable[[FaultPlace, int], None] = _nothing
    words: Sequence[str] = ()  # of a command, where it is not the worker
    from_the_start: bool = False  # what a start does itself
    at_rest: Callable[[FaultPlace, int], None] = _nothing  # what holds of so many of them once all rests
    fault: dict[str, Any] = field(default_factory=dict)


def record(place: FaultPlace, scenario: Scenario) -> list[Case]:
    """Every step and moment that somebody who does the scenario comes by, in their order."""
    trace = place.home / "trace"
    for number in (-2, -1):  # the first of its kind makes folders that are there for all others
        trace.unlink(missing_ok=True)
        worker = _go(place, scenario, number, {"trace": str(trace)})
        if scenario.words:
            worker.wait()
        place.await_that(lambda n=number: scenario.is_done(place, n))  # type: ignore[misc]
        if not scenario.words:
            time.sleep(_LAST_STEPS_S / 2)
            worker.stop()
    return cases_of(trace, scenario.way)


def cases_of(trace: Path, way: Mapping[str, Step]) -> list[Case]:
    """The steps of `way` that a trace has."""
    found = [line.split() for line in trace.read_text().splitlines()]
    return [
        (name, when, int(count))
        for name, when, count in found
        if name in way and when in list[str](way[name].whens)
    ]


def die_at_each(
    places: Callable[[str], FaultPlace], scenario: Scenario, cases: Sequence[Case], at_once: int = AT_ONCE
) -> list[str]:
    """What is wrong with any of `cases`, on several places at once.

    Those that took too long have a second try with nothing beside them: it may have been the machine.
    """

    def chain(name: str, cases: Sequence[Case]) -> list[Wrong]:
        place = places(name)
        wrong = [die_at(place, scenario, case, n) for n, case in enumerate(cases)]
        successor = place.start_worker()
        place.await_rest()
        successor.stop()
        place.check()
        if cases:
            scenario.at_rest(place, len(cases))
        return [one for one in wrong if one]

    with ThreadPoolExecutor(at_once) as pool:
        chains = pool.map(lambda n: chain(f"place-{n}", cases[n::at_once]), range(at_once))
        wrong = [one for found in chains for one in found]
    late = [one.case for one in wrong if one.is_late]
    again = chain("again", late) if late else []
    return [f"{one.case}: {one.reason}" for one in [*(one for one in wrong if not one.is_late), *again]]


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a case, and whether it is only that it took too long."""

    case: Case
    reason: str
    is_late: bool = False


def die_at(place: FaultPlace, scenario: Scenario, case: Case, number: int) -> Wrong | None:
    """Let a worker die at `case` of the scenario, and another one go on; gives what is wrong with that."""
    worker = _go(place, scenario, number, {"crash": case})
    place.await_that(lambda: worker.process.poll() is not None or scenario.is_done(place, number))
    with suppress(subprocess.TimeoutExpired):
        worker.wait(5 * _LAST_STEPS_S if case[2] == 1 else 0.1)
    died = worker.process.poll() is not None
    if not died:  # it had not to come by that often
        worker.kill()
    began = time.monotonic()
    if scenario.words:
        time.sleep(1)  # a sweep's lease
    successor = place.start_worker(*scenario.words, ready=False)
    if scenario.words:
        successor.wait()  # it refuses where there is nothing left to do
    place.await_that(lambda: scenario.is_done(place, number), TIMEOUT_S)
    took = time.monotonic() - began
    if not scenario.words:
        successor.await_log("worker_started")
        successor.stop()
    if took > WITHIN_S:
        return Wrong(case, f"it took {took:.1f} s", is_late=True)
    return None if died or case[2] > 1 else Wrong(case, "the worker never came by")


def _go(place: FaultPlace, scenario: Scenario, number: int, fault: dict[str, Any]) -> ForkedWorker:
    scenario.prepare(place, number)
    fault = {**fault, **scenario.fault, "armed": scenario.from_the_start}
    worker = place.start_worker(*scenario.words, ready=not scenario.from_the_start, fault=fault)
    if not scenario.from_the_start:
        worker.await_log("healthy")
        worker.arm()
    scenario.send(place, number)
    return worker
