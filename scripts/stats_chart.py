"""The growth of the storage as a bar chart: a bar a day, or for several days of a long history."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.bar import Bar
from rich.filesize import decimal as size
from rich.table import Table

from scripts.terminal import table

ROWS = 30  # what a terminal shows at once
WIDTH = 40  # characters of the longest bar


@dataclass(frozen=True)
class Point:
    """What was stored at one moment: its label, uploads, bytes."""

    label: str
    uploads: int
    bytes: int


def chart(points: Sequence[Point], encoding: str) -> Table:
    """A row for each point, the newest last, with the growth since the row above."""
    chosen = _chosen(points)
    most = max(point.bytes for point in chosen)
    befores = [None, *chosen[:-1]]
    rows = [
        (
            point.label,
            point.uploads,
            size(point.bytes),
            "" if before is None else _signed(point.bytes - before.bytes),
            _bar(point.bytes, most, plain="utf" not in encoding.lower()),
        )
        for before, point in zip(befores, chosen, strict=True)
    ]
    return table("Stored", ("day", "#uploads", "#size", "#growth", ""), rows)


def _chosen(points: Sequence[Point]) -> Sequence[Point]:
    """At most ROWS points, at equal steps back from the newest."""
    step = -(-len(points) // ROWS)
    return points[::-1][::step][::-1]


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{size(abs(count))}"


def _bar(length: int, longest: int, *, plain: bool) -> Bar | str:
    if plain:
        return "#" * round(WIDTH * length / (longest or 1))
    return Bar(longest, 0, length, width=WIDTH)
