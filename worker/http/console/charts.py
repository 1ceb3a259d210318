"""Charts: the only place that turns numbers into shapes. `charts.html` draws them, CSS colours them.

Along the width everything is in %, so that a chart fits every screen without script and without a stretched
text; along the height it is in px, from the top.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from worker.http.console.wording import count

_LINES = 3  # of a scale, about
_STEPS = (1, 2, 5, 10)
_FILLED = 0.76  # of a column's place, the rest is between two
_LEAST_PX = 2.0  # of a bar: one among thousands is seen
_LEAST_BELOW_PX = 4.0  # of one that hangs: it is what somebody looks for
_LABEL_PX = 15.0  # between two labels of a scale


@dataclass(frozen=True)
class ChartSeries:
    """Numbers of one kind, one for each place; the name is what CSS knows it by."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Line:
    """A line of the scale, and what stands beside it."""

    y: float
    label: str


@dataclass(frozen=True)
class Bar:
    """What one number of a series becomes."""

    series: str
    y: float
    height: float


@dataclass(frozen=True)
class Column:
    """What stands at one place: its words, its bars (x and width in %), and the room that is all its own."""

    title: str
    x: float
    width: float
    room_x: float
    room_width: float
    bars: Sequence[Bar] = ()


@dataclass(frozen=True)
class Area:
    """What a series becomes where its numbers are joined: a path, whose x is in %."""

    series: str
    path: str


@dataclass(frozen=True)
class Chart:
    """All shapes of a chart that is so high; what lies below the `baseline` counts downwards."""

    height: float
    baseline: float
    lines: Sequence[Line]
    columns: Sequence[Column]
    areas: Sequence[Area] = ()


Word = Callable[[int], str]


def opposed_bars(
    above: ChartSeries, below: ChartSeries, titles: Sequence[str], height: float, word: Word = count
) -> Chart:
    """Bars of one series that stand on a line, and of another that hang from it, on the same scale.

    Bars below take no more room than they need, and are seen however few they count: where the longest
    would have no room for its label, they are all drawn longer, to a scale of their own.
    """
    highest, deepest = max(above.values, default=0), max(below.values, default=0)
    step = _step(max(highest, deepest))
    top = _top(highest, step) if highest or not deepest else 0
    room_below = max(_LABEL_PX, height * deepest / (top + deepest)) if deepest else 0.0
    baseline = height - room_below
    scale = baseline / top if top else 0.0
    scale_below = room_below / deepest if deepest else 0.0

    def bars(number: int) -> Sequence[Bar]:
        up = _pixels(above.values[number], scale)
        down = _pixels(below.values[number], scale_below, _LEAST_BELOW_PX)
        found = [
            Bar(above.name, _round(baseline - up), _round(up)),
            Bar(below.name, _round(baseline), _round(down)),
        ]
        return [bar for bar in found if bar.height]

    lines = [*_lines(top, step, baseline, word), *_lines_below(deepest, step, baseline, scale_below, word)]
    return Chart(height, _round(baseline), lines, _columns(titles, bars))


def stacked_areas(
    series: Sequence[ChartSeries],
    titles: Sequence[str],
    height: float,
    word: Word = count,
    at: Sequence[float] | None = None,
) -> Chart:
    """Areas of several series that lie on each other, the first one lowest.

    `at` says where each place lies, such as by its day, in rising order; without it they are equally far
    apart. A single place is drawn as wide as the chart.
    """
    sums = _sums(series)
    step = _step(max(sums, default=0))
    top = _top(max(sums, default=0), step)
    scale = height / top
    places = _places(range(len(titles)) if at is None else at)
    areas, lower = [], [0.0] * len(titles)
    for one in series:
        upper = [below + value for below, value in zip(lower, one.values, strict=True)]
        areas.append(Area(one.name, _path(places, lower, upper, height, scale)))
        lower = upper
    columns = [
        Column(title, x, 0, begin, width)
        for title, (x, begin, width) in zip(titles, _rooms(places), strict=True)
    ]
    return Chart(height, height, _lines(top, step, height, word), columns, areas if titles else ())


def _sums(series: Sequence[ChartSeries]) -> Sequence[float]:
    return [sum(values) for values in zip(*(one.values for one in series), strict=True)]


def _step(most: float) -> int:
    """How much lies between two lines: 1, 2 or 5 with zeros, so that about `_LINES` of them are needed."""
    rough = max(most / _LINES, 1)
    zeros = 10 ** math.floor(math.log10(rough))
    return int(next(step for step in _STEPS if step * zeros >= rough) * zeros)


def _top(most: float, step: int) -> int:
    """The first line that nothing reaches above."""
    return max(1, math.ceil(most / step)) * step


def _lines(top: int, step: int, baseline: float, word: Word) -> Sequence[Line]:
    values = range(0, top + 1, step)
    return [Line(_round(baseline - value * baseline / max(1, top)), word(value)) for value in values]


def _lines_below(deepest: float, step: int, baseline: float, scale: float, word: Word) -> Sequence[Line]:
    """The steps that bars below reach; where they reach none, the end of the longest."""
    values = range(step, int(deepest) + 1, step) or ([int(deepest)] if deepest else [])
    return [Line(_round(baseline + value * scale), word(value)) for value in values]


def _pixels(value: float, scale: float, least: float = _LEAST_PX) -> float:
    return max(least, value * scale) if value else 0.0


def _columns(titles: Sequence[str], bars: Callable[[int], Sequence[Bar]]) -> Sequence[Column]:
    width = 100 / max(1, len(titles))
    gap = width * (1 - _FILLED) / 2
    return [
        Column(
            title,
            _round(number * width + gap),
            _round(width * _FILLED),
            _round(number * width),
            _round(width),
            bars(number),
        )
        for number, title in enumerate(titles)
    ]


def _places(at: Sequence[float]) -> Sequence[float]:
    """Where the places lie, in % of the width."""
    if not at:
        return []
    first, width = at[0], at[-1] - at[0]
    return [100 * (one - first) / width if width else 0.0 for one in at]


def _rooms(places: Sequence[float]) -> Sequence[tuple[float, float, float]]:
    """Each place, and the room that is nearer to it than to others: where it begins, how wide it is."""
    borders = [0.0, *((one + other) / 2 for one, other in pairwise(places)), 100.0]
    return [
        (_round(place), _round(begin), _round(end - begin))
        for place, (begin, end) in zip(places, pairwise(borders), strict=False)
    ]


def _path(
    places: Sequence[float], lower: Sequence[float], upper: Sequence[float], height: float, scale: float
) -> str:
    """Along the upper edge, and back along the lower one."""
    if len(places) == 1:
        places, lower, upper = [0.0, 100.0], [*lower, *lower], [*upper, *upper]
    there = [(x, height - value * scale) for x, value in zip(places, upper, strict=True)]
    back = [(x, height - value * scale) for x, value in zip(places, lower, strict=True)]
    corners = [f"{_round(x):g},{_round(y):g}" for x, y in (*there, *reversed(back))]
    return "M" + "L".join(corners) + "Z"


def _round(number: float) -> float:
    return round(number, 2)
