"""The growth of storage, as a terminal shows it."""

import io
from collections.abc import Sequence

from rich.console import Console

from scripts.stats_chart import ROWS, WIDTH, Point, chart

MB = 1_000_000


def rendered(points: Sequence[Point], encoding: str = "utf-8") -> list[str]:
    page = io.StringIO()
    Console(file=page, width=100).print(chart(points, encoding))
    return [line.strip() for line in page.getvalue().splitlines()[2:]]


def test_each_day_has_a_bar_as_long_as_its_share_of_the_largest() -> None:
    lines = rendered([Point("2026-11-20", 1, MB), Point("2026-11-21", 3, 4 * MB), Point("now", 2, 2 * MB)])

    assert [line.count("█") for line in lines] == [WIDTH // 4, WIDTH, WIDTH // 2]
    assert [line.split()[:6] for line in lines] == [
        ["2026-11-20", "1", "1.0", "MB", "█" * 10],
        ["2026-11-21", "3", "4.0", "MB", "+3.0", "MB"],
        ["now", "2", "2.0", "MB", "-2.0", "MB"],
    ]


def test_a_long_history_fits_the_terminal_and_ends_now() -> None:
    points = [*(Point(f"day-{number}", number, number * MB) for number in range(400)), Point("now", 400, 1)]

    lines = rendered(points)

    assert ROWS // 2 < len(lines) <= ROWS
    assert lines[-1].startswith("now")
    assert lines[-2].startswith("day-386")


def test_a_terminal_that_knows_only_ascii_gets_plain_bars() -> None:
    lines = rendered([Point("a", 1, MB), Point("b", 1, 2 * MB)], "ascii")

    assert [line.count("#") for line in lines] == [WIDTH // 2, WIDTH]
    assert all(line.isascii() for line in lines)


def test_where_nothing_is_stored_there_is_no_bar() -> None:
    assert rendered([Point("now", 0, 0)]) == ["now        0  0 bytes"]
