"""What rounds amount to: medians and spreads for each contender, goals, and a table for people."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.compare import Measured
from bench.contenders import BullMQChained, BullMQClone, Celery, Floor, MediaWorker
from bench.rounds import Round
from bench.statistics import Spread, percentile, spread

OURS, FLOOR = MediaWorker.title, Floor.title


@dataclass(frozen=True)
class Summary:
    """One contender on so many cores, over all its rounds."""

    title: str
    cores: int
    rate: Spread
    undisturbed: Spread
    cpu: Mapping[str, float]
    peak: int
    peak_redis: int
    variant_bytes: int
    disk_bytes: int
    others: float
    singles: tuple[float, float, float] | None
    idle: float
    stages: Mapping[str, float]

    @property
    def cpu_ms(self) -> float:
        return sum(self.cpu.values())


def summarise(found: Sequence[Round]) -> Sequence[Summary]:
    """One summary for each contender and number of cores, in the order in which they came first."""
    groups: dict[tuple[int, str], list[Round]] = {}
    for one in found:
        groups.setdefault((one.cores, one.title), []).append(one)
    return [_summary(group) for _, group in sorted(groups.items(), key=lambda item: item[0][0])]


def _summary(group: Sequence[Round]) -> Summary:
    first = group[0]
    singles = [took for one in group for took in one.singles]

    def middle(value: Callable[[Round], float]) -> float:
        return spread([value(one) for one in group]).median

    return Summary(
        title=first.title,
        cores=first.cores,
        rate=spread([one.rate for one in group]),
        undisturbed=spread([one.undisturbed for one in group]),
        cpu=_middles([one.cpu for one in group]),
        peak=max(one.peak for one in group),
        peak_redis=max(one.peak_redis for one in group),
        variant_bytes=int(middle(lambda one: one.variant_bytes)),
        disk_bytes=int(middle(lambda one: one.disk_bytes)),
        others=middle(lambda one: one.others),
        singles=_three(singles) if singles else None,
        idle=middle(lambda one: one.idle),
        stages=_middles([one.stages for one in group]),
    )


def _middles(found: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    names = dict.fromkeys(name for one in found for name in one)
    return {name: spread([one.get(name, 0.0) for one in found]).median for name in names}


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return percentile(values, 50), percentile(values, 95), percentile(values, 99)


@dataclass(frozen=True)
class Goal:
    """Something that must hold, and what was found."""

    what: str
    goal: float
    found: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.found >= self.goal if self.at_least else self.found <= self.goal


def goals(photos: Sequence[Summary], small: Sequence[Summary]) -> Sequence[Goal]:
    """What must hold, as far as this run has measured it."""
    return [*_rates(photos), *_memory(photos), *_waiting(photos), *_small(small)]


def _rates(found: Sequence[Summary]) -> Iterator[Goal]:
    ours = _of(found, OURS, 1)
    for title, least in (
        (FLOOR, 0.9),
        (BullMQClone.title, 1.9),
        (BullMQChained.title, 1.3),
        (Celery.title, 2.8),
    ):
        other = _of(found, title, 1)
        if ours and other:
            yield Goal(f"images/s on one core, times {title}", least, _times(ours, other))
    two = _of(found, OURS, 2)
    if ours and two:
        yield Goal("images/s on two cores, times one core", 1.75, _times(two, ours))


def _times(one: Summary, other: Summary) -> float:
    return one.undisturbed.median / other.undisturbed.median


def _memory(found: Sequence[Summary]) -> Iterator[Goal]:
    for cores, most in ((1, 160), (2, 230)):
        if ours := _of(found, OURS, cores):
            yield Goal(f"peak memory with {cores} decoders, MB", most, ours.peak / 1e6, at_least=False)


def _waiting(found: Sequence[Summary]) -> Iterator[Goal]:
    ours, floor = _of(found, OURS, 1), _of(found, FLOOR, 1)
    if ours and floor and ours.singles and floor.singles:
        most = 1.3 * floor.singles[0] + 40
        yield Goal("a single upload when idle, p50, ms", most, ours.singles[0], at_least=False)
        yield Goal("CPU when idle, % of a core", 2, 100 * ours.idle, at_least=False)


def _small(found: Sequence[Summary]) -> Iterator[Goal]:
    ours, floor = _of(found, OURS, 1), _of(found, FLOOR, 1)
    if ours and floor:
        times = floor.undisturbed.median / ours.undisturbed.median
        yield Goal("small uploads, time in times of the libvips loop", 1.5, times, at_least=False)


def _of(found: Sequence[Summary], title: str, cores: int) -> Summary | None:
    return next((one for one in found if (one.title, one.cores) == (title, cores)), None)


def markdown(measured: Measured, machine: Mapping[str, str]) -> str:
    """Tables for a README: the photos, the small pictures, the goals, and where it was measured."""
    photos, small = summarise(measured.rounds), summarise(measured.small)
    parts = ["<!-- made by `make bench` -->", *_tables(photos, small)]
    if found := goals(photos, small):
        parts.append(goal_table(found))
    parts += [f"Not measured: {line}" for line in measured.missing]
    parts.append(_where(photos, machine))
    return "\n\n".join(parts) + "\n"


def for_readme(measured: Measured, machine: Mapping[str, str]) -> Sequence[str]:
    """The lines of the README's part: the photos, the small pictures, and where they were measured."""
    photos, small = summarise(measured.rounds), summarise(measured.small)
    return "\n\n".join([*_tables(photos, small), _where(photos, machine)]).splitlines()


def _tables(photos: Sequence[Summary], small: Sequence[Summary]) -> Sequence[str]:
    if not small:
        return [_table(photos)]
    return [_table(photos), "Small uploads (640 x 480, under 100 KB), one core:", _table(small)]


def _table(found: Sequence[Summary]) -> str:
    floors = {one.cores: one.undisturbed.median for one in found if one.title == FLOOR}
    waited = any(one.singles for one in found)
    rows = [
        "| | cores | images/s | of the libvips loop | CPU ms an image | peak memory |"
        + (" one upload when idle, p50 / p95 / p99 |" if waited else ""),
        "|---|---:|---:|---:|---:|---:|" + ("---:|" if waited else ""),
    ]
    for one in found:
        name = f"**{one.title}**" if one.title == OURS else one.title
        part = f"{one.undisturbed.median / floors[one.cores]:.2f}" if one.cores in floors else ""
        single = " / ".join(f"{ms:.0f}" for ms in one.singles) + " ms" if one.singles else ""
        last = f" {single} |" if waited else ""
        rows.append(
            f"| {name} | {one.cores} | {one.undisturbed.median:.1f} ± {one.undisturbed.percent:.0f} % "
            f"| {part} | {one.cpu_ms:.0f} | {one.peak / 1e6:.0f} MB |{last}"
        )
    return "\n".join(rows)


def goal_table(found: Sequence[Goal]) -> str:
    """What must hold, what was found, and whether that is enough."""
    rows = ["| what must hold | goal | found | |", "|---|---:|---:|---|"]
    for one in found:
        sign = "at least" if one.at_least else "at most"
        rows.append(
            f"| {one.what} | {sign} {one.goal:.4g} | {one.found:.3g} | {'yes' if one.met else 'no'} |"
        )
    return "\n".join(rows)


def _where(found: Sequence[Summary], machine: Mapping[str, str]) -> str:
    rounds = min(one.rate.count for one in found)
    others = max(one.others for one in found)
    described = ", ".join(f"{name} {value}" for name, value in machine.items())
    return (
        f"Medians of {rounds} interleaved rounds, ± half of their range; everybody, its children and its "
        f"Redis pinned to the same cores. Other programs took up to {others:.0%} of their time, which is "
        f"taken off. Memory is that of all its processes but Redis (PSS). Measured on: {described}."
    )


def as_json(measured: Measured, machine: Mapping[str, str]) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "machine": dict(machine),
        "missing": list(measured.missing),
        "rounds": [one.as_json() for one in measured.rounds],
        "small": [one.as_json() for one in measured.small],
        "goals": [
            {"what": one.what, "goal": one.goal, "found": one.found, "met": one.met}
            for one in goals(summarise(measured.rounds), summarise(measured.small))
        ],
    }
