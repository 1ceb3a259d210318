"""Everybody side by side: rounds interleaved, on the same one core and then on more."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench import photos, rounds
from bench.contenders import ALL, BenchError, Contender
from bench.processes import pinned
from bench.rounds import Plan, Round
from scripts.redis_server import RedisServer, temporary_redis

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    folder: Path | None = None
    kinds: Sequence[type[Contender]] = ALL
    cores: Sequence[Sequence[int]] = ((0,), (0, 1))
    count: int = 5
    seconds: float = 10.0
    singles: int = 13
    small: int = 1000
    work: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


@dataclass(frozen=True)
class Measured:
    """All rounds on photos and on small pictures, and what could not take part."""

    rounds: Sequence[Round]
    small: Sequence[Round]
    missing: Sequence[str]


def run(options: Options) -> Measured:
    """Measure; says on standard error how it goes. Raises: BenchError."""
    kinds, missing = _present(options.kinds)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work, ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        pictures = photos.copied(photos.find(options.folder), work / "photos")
        found = list(_rounds(options, kinds, pictures, work))
        little = list(_small(options, kinds, pictures, work)) if options.small else []
    return Measured(found, little, missing)


def _present(kinds: Sequence[type[Contender]]) -> tuple[Sequence[type[Contender]], Sequence[str]]:
    reasons = {kind: kind.missing() for kind in kinds}
    missing = [f"{kind.title}: {reason}" for kind, reason in reasons.items() if reason]
    for line in missing:
        say(f"not measured: {line}")
    return [kind for kind, reason in reasons.items() if reason is None], missing


def _rounds(
    options: Options, kinds: Sequence[type[Contender]], pictures: Sequence[Path], work: Path
) -> Iterator[Round]:
    with ExitStack() as stack:
        servers = [(cores, _server(stack, cores)) for cores in options.cores]
        for cores, server in servers:
            plan = Plan(cores, options.seconds, singles=options.singles if len(cores) == 1 else 0, work=work)
            for number in range(options.count):
                for kind in turned(kinds, number):
                    yield _said(rounds.run(kind, pictures, server, plan), f"round {number + 1}")


def _small(
    options: Options, kinds: Sequence[type[Contender]], pictures: Sequence[Path], work: Path
) -> Iterator[Round]:
    little = photos.small(pictures, options.small, work / "small")
    with ExitStack() as stack:
        server = _server(stack, options.cores[0])
        plan = Plan(options.cores[0], options.seconds, passes=1, work=work)
        for number in range(min(options.count, 3)):
            for kind in turned(kinds, number):
                yield _said(rounds.run(kind, little, server, plan), f"small {number + 1}")


def _server(stack: ExitStack, cores: Sequence[int]) -> RedisServer:
    with pinned(cores):
        return stack.enter_context(temporary_redis())


def turned(starts: Sequence[T], by: int) -> Sequence[T]:
    """Those, beginning with another one: who comes first in a round is not always the same."""
    by %= len(starts)
    return [*starts[by:], *starts[:by]]


def _said(found: Round, name: str) -> Round:
    say(
        f"{name}, {found.cores} core{'s' * (found.cores > 1)}: {found.title:<24} {found.rate:6.2f} images/s, "
        f"{found.cpu_ms:6.1f} CPU ms, {found.peak / 1e6:4.0f} MB, others took {found.others:.0%}"
    )
    return found


def say(line: str) -> None:
    """Say on standard error how it goes."""
    sys.stderr.write(line + "\n")


__all__ = ["BenchError", "Measured", "Options", "run", "say"]
