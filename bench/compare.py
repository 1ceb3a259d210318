"""Everybody side by side: rounds interleaved, on pictures of each class, on one core and on more."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench import photos, rounds
from bench.classes import CLASSES
from bench.contenders import ALL, BenchError, Contender
from bench.processes import pinned
from bench.rounds import Plan, Round
from scripts.redis_server import temporary_redis

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What to measure. No round begins that would not end within `minutes`, but the first."""

    folder: Path | None = None
    kinds: Sequence[type[Contender]] = ALL
    cores: Sequence[Sequence[int]] = ((0,), (0, 1))
    classes: Sequence[str] = tuple(CLASSES)
    count: int = 5
    seconds: float | None = None
    is_quick: bool = False
    minutes: float = 30.0
    work: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


@dataclass(frozen=True)
class Measured:
    """All rounds, what could not take part, and how long it took (s)."""

    rounds: Sequence[Round]
    missing: Sequence[str] = ()
    seconds: float = 0.0


def run(options: Options) -> Measured:
    """Measure; says on standard error how it goes. Raises: BenchError."""
    began = time.monotonic()
    kinds, missing = _present(options.kinds)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work, ignore_cleanup_errors=True) as folder:
        found = list(within(options.minutes * 60, began, _rounds(options, kinds, Path(folder))))
    taken = time.monotonic() - began
    say(f"That took {taken / 60:.1f} minutes.")
    return Measured([one for each in found for one in each], missing, taken)


def _present(kinds: Sequence[type[Contender]]) -> tuple[Sequence[type[Contender]], Sequence[str]]:
    reasons = {kind: kind.missing() for kind in kinds}
    missing = [f"{kind.title}: {reason}" for kind, reason in reasons.items() if reason]
    for line in missing:
        say(f"not measured: {line}")
    return [kind for kind, reason in reasons.items() if reason is None], missing


def within(
    limit_s: float, began: float, found: Iterator[T], clock: Callable[[], float] = time.monotonic
) -> Iterator[T]:
    """The rounds that end within the limit if each takes as long as the longest so far; always the first."""
    longest = 0.0
    while True:
        now = clock()
        if longest and now - began + longest > limit_s:
            say("No more rounds: they would take too long.")
            return
        try:
            yield next(found)
        except StopIteration:
            return
        longest = max(longest, clock() - now)


def _rounds(options: Options, kinds: Sequence[type[Contender]], work: Path) -> Iterator[Sequence[Round]]:
    """Round after round, each of all contenders on all classes and numbers of cores."""
    pictures = _pictures(options, work)
    with ExitStack() as stack:
        servers = []
        for cores in options.cores:
            with pinned(cores):
                servers.append((cores, stack.enter_context(temporary_redis())))
        for number in range(options.count):
            yield [
                _said(rounds.run(kind, files, server, _plan(options, name, cores, number, work)), number)
                for name, files in pictures.items()
                for cores, server in servers
                for kind in turned(kinds, number)
                if name in (kind.only or (name,))
            ]


def _pictures(options: Options, work: Path) -> Mapping[str, Sequence[Path]]:
    found = photos.find(options.folder)
    share = 10 if options.is_quick else 1
    return {
        name: CLASSES[name].make(found, max(2, CLASSES[name].count // share), work / name)
        for name in options.classes
    }


def _plan(options: Options, name: str, cores: Sequence[int], number: int, work: Path) -> Plan:
    asked = CLASSES[name]
    seconds = asked.seconds if options.seconds is None else options.seconds
    singles = asked.singles if len(cores) == 1 else 0
    idle_s = asked.idle_s if len(cores) == 1 and number == 0 else 0.0
    return Plan(
        cores,
        seconds,
        picture_class=name,
        warm_up=asked.warm_up,
        singles=min(2, singles) if options.is_quick else singles,
        idle_s=min(3, idle_s) if options.is_quick else idle_s,
        work=work,
    )


def turned(starts: Sequence[T], by: int) -> Sequence[T]:
    """Those, beginning with another one: who comes first in a round is not always the same."""
    by %= len(starts)
    return [*starts[by:], *starts[:by]]


def _said(found: Round, number: int) -> Round:
    say(
        f"round {number + 1}, {found.picture_class:<7} {found.cores} core{'s' * (found.cores > 1):<1}: "
        f"{found.title:<24} {found.rate:6.2f} images/s by the clock, {found.cpu_ms:6.1f} CPU ms, "
        f"{found.peak / 1e6:4.0f} MB, others took {found.others:.0%}"
    )
    return found


def say(line: str) -> None:
    """Say on standard error how it goes."""
    sys.stderr.write(line + "\n")


__all__ = ["BenchError", "Measured", "Options", "run", "say"]
