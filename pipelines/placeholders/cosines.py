"""Cosines: the waves that placeholders are made of, and the small pictures that they add up to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi

LONGEST_SIDE = 12  # px of a placeholder's picture: browsers enlarge it, and no wave of it is shorter

Wave = tuple[int, int]
"""How many half waves go across a picture, and how many down."""


@dataclass(frozen=True)
class Pixels:
    """A picture of eight bits a band: red, green, blue, row by row."""

    width: int
    height: int
    rgb: bytes


@lru_cache(64)
def cosines(length: int, waves: int, *, centred: bool) -> Sequence[Sequence[float]]:
    """The cosines of 0 to `waves` - 1 half waves at each of `length` px, at their middles if `centred`."""
    shift = 0.5 if centred else 0.0
    return [[cos(pi * wave * (at + shift) / length) for at in range(length)] for wave in range(waves)]


def size_of(across: int, down: int) -> tuple[int, int]:
    """The size in px of a placeholder's picture whose sides are to each other like these."""
    longest = max(across, down)
    return max(1, round(LONGEST_SIDE * across / longest)), max(1, round(LONGEST_SIDE * down / longest))


def plane(
    waves: Mapping[Wave, float], width: int, height: int, *, centred: bool
) -> Iterator[Iterable[float]]:
    """The rows of numbers that these waves add up to, each as high as its value says."""
    across, down = (max(wave[side] for wave in waves) + 1 for side in (0, 1))
    columns = cosines(width, across, centred=centred)
    lines = cosines(height, down, centred=centred)
    for y in range(height):
        sums = [0.0] * across
        for (cx, cy), value in waves.items():
            sums[cx] += value * lines[cy][y]
        yield [sum(map(_product, sums, at)) for at in zip(*columns, strict=True)]


def _product(a: float, b: float) -> float:
    return a * b
