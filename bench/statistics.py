"""Medians, spreads, percentiles and slopes of what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The middle of some measurements, and how far they lie apart."""

    median: float
    low: float
    high: float
    count: int

    @property
    def percent(self) -> float:
        """Half of the range, in per cent of the median."""
        return 50 * (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Sum up `values`, which must not be empty."""
    return Spread(median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` per cent of `values` do not exceed, interpolated between neighbours."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much y rises for each x, by least squares; 0 where x does not vary."""
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    across = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / across if across else 0.0
