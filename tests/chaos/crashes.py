"""Dying at each step of a way: they are recorded once, then died at one by one."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.ground import Case, Ground
from tests.chaos.nursery import ForkedWorker
from tests.chaos.steps import Step
from tests.support.workplace import PATIENCE_S

AT_ONCE = 8  # grounds, for most of the time they wait
WITHIN_S = 1 + 5.0  # the lease, and five seconds
_LAST_STEPS_S = 2.0  # what comes after the work is done: the message, the job's end


def _nothing(_ground: Ground, _number: int) -> None:
    pass


@dataclass(frozen=True)
class Errand:
    """A kind of work: what it needs, what sets the n-th of it going, when that is done; and who does it."""

    way: Mapping[str, Step]
    is_done: Callable[[Ground, int], bool]
    prepare: Callable[[Ground, int], None] = _nothing
    send: Callable[[Ground, int], None] = _nothing
    words: Sequence[str] = ()  # of a command, where it is not the worker
    from_the_start: bool = False  # what a start does itself
    mischief: dict[str, Any] = field(default_factory=dict)


def record(ground: Ground, errand: Errand) -> list[Case]:
    """Every step and moment that somebody who does the errand comes by, in their order."""
    trace = ground.home / "trace"
    for number in (-2, -1):  # the first of its kind makes folders that are there for all others
        trace.unlink(missing_ok=True)
        worker = _go(ground, errand, number, {"trace": str(trace)})
        if errand.words:
            worker.wait()
        ground.await_that(lambda n=number: errand.is_done(ground, n))  # type: ignore[misc]
        if not errand.words:
            time.sleep(_LAST_STEPS_S / 2)
            worker.stop()
    return cases_of(trace, errand.way)


def cases_of(trace: Path, way: Mapping[str, Step]) -> list[Case]:
    """What a trace tells of the steps of `way`."""
    found = [line.split() for line in trace.read_text().splitlines()]
    return [
        (name, when, int(count))
        for name, when, count in found
        if name in way and when in list[str](way[name].whens)
    ]


def die_at_each(
    grounds: Callable[[str], Ground], errand: Errand, cases: Sequence[Case], at_once: int = AT_ONCE
) -> list[str]:
    """What is wrong with any of `cases`, on several grounds at once.

    Those that took too long have a second try with nothing beside them: it may have been the machine.
    """

    def chain(name: str, cases: Sequence[Case]) -> list[Wrong]:
        ground = grounds(name)
        wrong = [die_at(ground, errand, case, n) for n, case in enumerate(cases)]
        heir = ground.hatch()
        ground.await_rest()
        heir.stop()
        ground.check()
        return [one for one in wrong if one]

    with ThreadPoolExecutor(at_once) as pool:
        chains = pool.map(lambda n: chain(f"ground-{n}", cases[n::at_once]), range(at_once))
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


def die_at(ground: Ground, errand: Errand, case: Case, number: int) -> Wrong | None:
    """Let a worker die at `case` of the errand, and another one go on; gives what is wrong with that."""
    worker = _go(ground, errand, number, {"crash": case})
    ground.await_that(lambda: worker.process.poll() is not None or errand.is_done(ground, number))
    with suppress(subprocess.TimeoutExpired):
        worker.wait(5 * _LAST_STEPS_S if case[2] == 1 else 0.1)
    died = worker.process.poll() is not None
    if not died:  # it had not to come by that often
        worker.kill()
    heir = ground.hatch(*errand.words, ready=False)
    began = time.monotonic()
    if errand.words:
        heir.wait()  # it refuses where there is nothing left to do
    ground.await_that(lambda: errand.is_done(ground, number), PATIENCE_S)
    took = time.monotonic() - began
    if not errand.words:
        heir.await_log("worker_started")
        heir.stop()
    if took > WITHIN_S:
        return Wrong(case, f"it took {took:.1f} s", is_late=True)
    return None if died or case[2] > 1 else Wrong(case, "the worker never came by")


def _go(ground: Ground, errand: Errand, number: int, mischief: dict[str, Any]) -> ForkedWorker:
    errand.prepare(ground, number)
    mischief = {**mischief, **errand.mischief, "armed": errand.from_the_start}
    worker = ground.hatch(*errand.words, ready=not errand.from_the_start, mischief=mischief)
    if not errand.from_the_start:
        worker.await_log("healthy")
        worker.arm()
    errand.send(ground, number)
    return worker
