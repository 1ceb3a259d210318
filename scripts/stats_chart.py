"""How the storage has grown, drawn for a terminal: a bar for a day, or for several days of a long history."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from scripts.terminal import size, table

ROWS = 30  # what a terminal shows at once
WIDTH = 40  # characters of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Point:
    """What was stored at one moment: how it is called, uploads, bytes."""

    label: str
    uploads: int
    bytes: int


def chart(points: Sequence[Point], encoding: str) -> Table:
    """The points from top to bottom, the newest last, each with what has come since the one above."""
    chosen = _chosen(points)
    most = max(point.bytes for point in chosen)
    befores = [None, *chosen[:-1]]
    rows = [
        (
            point.label,
            point.uploads,
            size(point.bytes),
            "" if before is None else _signed(point.bytes - before.bytes),
            _bar(point.bytes / most if most else 0.0, plain="utf" not in encoding.lower()),
        )
        for before, point in zip(befores, chosen, strict=True)
    ]
    return table("Stored", ("day", "#uploads", "#size", "#growth", ""), rows)


def _chosen(points: Sequence[Point]) -> Sequence[Point]:
    """As many as there is room for, at equal steps back from the newest."""
    step = -(-len(points) // ROWS)
    return points[::-1][::step][::-1]


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{size(abs(count))}"


def _bar(share: float, *, plain: bool) -> str:
    if plain:
        return "#" * round(share * WIDTH)
    full, rest = divmod(round(share * WIDTH * 8), 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")
