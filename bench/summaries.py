"""What rounds amount to: medians and spreads for each class, number of cores and contender."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.classes import CLASSES
from bench.contenders import ALL, Floor, MediaWorker
from bench.rounds import Round
from bench.statistics import Spread, percentile, spread

OURS, FLOOR = MediaWorker.title, Floor.title
_RANKS = {kind.title: number for number, kind in enumerate(ALL)}


@dataclass(frozen=True)
class Summary:
    """One contender on so many cores with the pictures of a class, over all its rounds."""

    picture_class: str
    title: str
    cores: int
    rate: Spread
    undisturbed: Spread
    cpu: Mapping[str, float]
    kernel: Mapping[str, float]
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
    """One summary for each class, number of cores and contender, in the order in which classes came first."""
    classes = list(dict.fromkeys(one.picture_class for one in found))
    groups: dict[tuple[str, int, str], list[Round]] = {}
    for one in found:
        groups.setdefault((one.picture_class, one.cores, one.title), []).append(one)
    ordered = sorted(groups, key=lambda key: (classes.index(key[0]), key[1], _RANKS.get(key[2], len(_RANKS))))
    return [_summary(groups[key]) for key in ordered]


def _summary(group: Sequence[Round]) -> Summary:
    first = group[0]
    singles = [took for one in group for took in one.singles]

    def middle(value: Callable[[Round], float]) -> float:
        return spread([value(one) for one in group]).median

    return Summary(
        picture_class=first.picture_class,
        title=first.title,
        cores=first.cores,
        rate=spread([one.rate for one in group]),
        undisturbed=spread([one.undisturbed for one in group]),
        cpu=_middles([one.cpu for one in group]),
        kernel=_middles([one.kernel for one in group]),
        peak=max(one.peak for one in group),
        peak_redis=max(one.peak_redis for one in group),
        variant_bytes=int(middle(lambda one: one.variant_bytes)),
        disk_bytes=int(middle(lambda one: one.disk_bytes)),
        others=middle(lambda one: one.others),
        singles=_three(singles) if singles else None,
        idle=max(one.idle for one in group),
        stages=_middles([one.stages for one in group]),
    )


def _middles(found: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    names = dict.fromkeys(name for one in found for name in one)
    return {name: spread([one.get(name, 0.0) for one in found]).median for name in names}


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return percentile(values, 50), percentile(values, 95), percentile(values, 99)


def times(one: Summary, other: Summary) -> float:
    """How many times the images per second of the other."""
    return one.undisturbed.median / other.undisturbed.median


def title_of(name: str) -> str:
    """What people call a class of pictures."""
    return CLASSES[name].title if name in CLASSES else name


def cores_of(count: int) -> str:
    """The number in words."""
    return {1: "one core", 2: "two cores"}.get(count, f"{count} cores")
