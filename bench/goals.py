"""What must hold for each class of pictures, what was found, and a table of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.classes import AVATARS, PHONES, PHOTOS, SMALL
from bench.contenders import BullMQChained, BullMQClone, Celery
from bench.summaries import FLOOR, OURS, Summary, cores_of, times


@dataclass(frozen=True)
class Goal:
    """Something that must hold for a class of pictures, and what was found; no goal: it is only told."""

    what: str
    goal: float | None
    found: float
    at_least: bool = True
    picture_class: str = ""
    aim: float | None = None
    """What would be better than the goal."""

    @property
    def met(self) -> bool:
        return self.goal is None or self._reaches(self.goal)

    @property
    def is_aim_reached(self) -> bool:
        return self.aim is not None and self._reaches(self.aim)

    def _reaches(self, goal: float) -> bool:
        return self.found >= goal if self.at_least else self.found <= goal


@dataclass(frozen=True)
class Ratio:
    """How many times the images per second of another contender this worker must reach."""

    title: str
    goal: float | None
    aim: float | None = None


_SMALL_RATIOS = (
    Ratio(FLOOR, 1.0, 1.17),
    Ratio(BullMQClone.title, 1.0),
    Ratio(BullMQChained.title, 1.0),
    Ratio(Celery.title, None, 1.0),
)
RATIOS: Mapping[str, Sequence[Ratio]] = {
    PHOTOS: (
        Ratio(FLOOR, 1.03, 1.10),
        Ratio(BullMQClone.title, 2.1),
        Ratio(BullMQChained.title, 1.5),
        Ratio(Celery.title, 3.0),
    ),
    PHONES: (Ratio(FLOOR, 1.03),),
    SMALL: _SMALL_RATIOS,
    AVATARS: _SMALL_RATIOS,
}
_TWO_CORES = 1.75
_MOST_MB = {1: 160, 2: 230}
_MOST_IDLE = 2.0


def goals(found: Sequence[Summary]) -> Sequence[Goal]:
    """What must hold, as far as this run has measured it, class by class."""
    return [
        goal for name in dict.fromkeys(one.picture_class for one in found) for goal in _goals(name, found)
    ]


def _goals(name: str, found: Sequence[Summary]) -> Iterator[Goal]:
    of_class = [one for one in found if one.picture_class == name]
    for goal in (*_rates(name, of_class), *_memory(name, of_class), *_waiting(name, of_class)):
        yield replace(goal, picture_class=name)


def _rates(name: str, found: Sequence[Summary]) -> Iterator[Goal]:
    for ours in (one for one in found if one.title == OURS):
        for ratio in RATIOS.get(name, ()):
            if other := _on(found, ratio.title, ours.cores):
                what = f"images/s on {cores_of(ours.cores)}, times {ratio.title}"
                yield Goal(what, ratio.goal, times(ours, other), aim=ratio.aim)
    one, two = _on(found, OURS, 1), _on(found, OURS, 2)
    if one and two:
        least = _TWO_CORES if name == PHOTOS else None
        yield Goal("images/s on two cores, times one core", least, times(two, one))


def _memory(name: str, found: Sequence[Summary]) -> Iterator[Goal]:
    for cores, most in _MOST_MB.items():
        if ours := _on(found, OURS, cores):
            allowed = most if name == PHOTOS else None
            yield Goal(f"peak memory on {cores_of(cores)}, MB", allowed, ours.peak / 1e6, at_least=False)


def _waiting(name: str, found: Sequence[Summary]) -> Iterator[Goal]:
    ours, floor = _on(found, OURS, 1), _on(found, FLOOR, 1)
    if ours and floor and ours.singles and floor.singles:
        most = 1.2 * floor.singles[0] + 30
        yield Goal("a single upload when idle, p50, ms", most, ours.singles[0], at_least=False)
        yield Goal("a single upload when idle, p99, ms", None, ours.singles[2], at_least=False)
        if name == PHOTOS:
            yield Goal("CPU when idle, % of a core", _MOST_IDLE, 100 * ours.idle, at_least=False)


def _on(found: Sequence[Summary], title: str, cores: int) -> Summary | None:
    return next((one for one in found if (one.title, one.cores) == (title, cores)), None)


def goal_table(found: Sequence[Goal]) -> str:
    """What must hold, what was found, and whether that is enough."""
    by_class, aims = any(one.picture_class for one in found), any(one.aim for one in found)
    head = " | ".join([*["class"] * by_class, "what must hold", "goal", *["aim"] * aims, "found"])
    ranks = ["---"] * (1 + by_class) + ["---:"] * (2 + aims) + ["---"]
    rows = [f"| {head} | |", f"|{'|'.join(ranks)}|"]
    for one in found:
        sign = "at least" if one.at_least else "at most"
        cells = [
            *[one.picture_class] * by_class,
            one.what,
            "told" if one.goal is None else f"{sign} {one.goal:.4g}",
            *[f"{one.aim:.4g}" if one.aim else ""] * aims,
            f"{one.found:.3g}",
            _verdict(one),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _verdict(one: Goal) -> str:
    if one.goal is None and one.aim is None:
        return ""
    if not one.met:
        return "no"
    if one.aim is not None:
        return "yes, and the aim" if one.is_aim_reached else ("yes" if one.goal else "below the aim")
    return "yes"
