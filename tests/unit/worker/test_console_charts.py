"""Charts: what shapes numbers become."""

from itertools import pairwise

import pytest

from worker.http.console.charts import ChartSeries, opposed_bars, stacked_areas
from worker.http.console.wording import size

HOUR = [str(minute) for minute in range(60)]


def hour(name: str, **minutes: float) -> ChartSeries:
    """A series of 60 numbers, 0 but at the minutes that are named (`m5`)."""
    return ChartSeries(name, [minutes.get(f"m{minute}", 0) for minute in range(60)])


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, ["0", "1"]),
        (1, ["0", "1"]),
        (3, ["0", "1", "2", "3"]),
        (7, ["0", "5", "10"]),
        (120, ["0", "50", "100", "150"]),
        (48_210, ["0", "20,000", "40,000", "60,000"]),
    ],
)
def test_a_scale_has_few_round_numbers_and_nothing_above_the_last(most: float, labels: list[str]) -> None:
    chart = stacked_areas([ChartSeries("ready", [most])], ["now"], 120)

    assert [line.label for line in chart.lines] == labels
    assert (chart.lines[0].y, chart.lines[-1].y) == (120, 0)


def test_a_scale_of_bytes_is_in_their_units() -> None:
    chart = stacked_areas([ChartSeries("originals", [2_400_000_000])], ["today"], 120, size)

    assert [line.label for line in chart.lines] == ["0 B", "1.0 GB", "2.0 GB", "3.0 GB"]


def test_failures_hang_below_the_line_on_which_the_others_stand() -> None:
    chart = opposed_bars(hour("ready", m5=30), hour("failed", m5=10), HOUR, 100)
    up, down = chart.columns[5].bars

    assert (up.series, up.y + up.height, up.height) == ("ready", chart.baseline, 75)
    assert (down.series, down.y, down.height) == ("failed", chart.baseline, 25)


def test_one_failure_among_thousands_is_seen() -> None:
    chart = opposed_bars(hour("ready", m1=100_000), hour("failed", m2=1), HOUR, 100)
    [bar] = chart.columns[2].bars

    assert bar.height >= 2
    assert bar.y + bar.height <= chart.height


def test_where_nothing_failed_all_the_height_is_for_what_did_not() -> None:
    chart = opposed_bars(hour("ready", m1=5), hour("failed"), HOUR, 100)

    assert chart.baseline == 100
    assert [column.bars != [] for column in chart.columns].count(True) == 1


def test_an_hour_in_which_everything_failed_is_drawn_too() -> None:
    chart = opposed_bars(hour("ready"), hour("failed", m3=40), HOUR, 100)
    [bar] = chart.columns[3].bars

    assert chart.baseline + bar.height == 100
    assert bar.height > 90


@pytest.mark.parametrize(
    ("ready", "failed", "labels"),
    [
        (30, 25, ["0", "10", "20", "30", "10", "20"]),
        (300, 3, ["0", "100", "200", "300", "3"]),
        (2, 40, ["0", "20", "20", "40"]),
        (0, 40, ["0", "20", "40"]),
    ],
)
def test_the_scale_goes_on_below_the_line_and_no_two_labels_overlap(
    ready: int, failed: int, labels: list[str]
) -> None:
    chart = opposed_bars(hour("ready", m1=ready), hour("failed", m2=failed), HOUR, 132)
    places = sorted(line.y for line in chart.lines)

    assert [line.label for line in chart.lines] == labels
    assert places[0] == 0
    assert places[-1] == pytest.approx(132, abs=12)
    assert min(below - above for above, below in pairwise(places)) >= 12


def test_columns_share_the_width_and_keep_a_gap() -> None:
    first, second = opposed_bars(hour("ready"), hour("failed"), HOUR, 100).columns[:2]

    assert (first.room_x, first.room_width, second.room_x) == (0, 1.67, 1.67)
    assert first.x > 0
    assert first.x + first.width < second.x


def test_areas_lie_on_each_other_from_edge_to_edge() -> None:
    chart = stacked_areas(
        [ChartSeries("originals", [0, 50]), ChartSeries("variants", [50, 50])], ["a", "b"], 100
    )

    assert [area.series for area in chart.areas] == ["originals", "variants"]
    assert chart.areas[0].path == "M0,100L100,50L100,100L0,100Z"
    assert chart.areas[1].path == "M0,50L100,0L100,50L0,100Z"


def test_places_lie_as_far_apart_as_the_days_that_they_are_of() -> None:
    chart = stacked_areas(
        [ChartSeries("originals", [1, 1, 1])], ["1", "2", "5"], 100, at=[20_001, 20_002, 20_005]
    )

    assert [column.x for column in chart.columns] == [0, 25, 100]
    assert [(column.room_x, column.room_width) for column in chart.columns] == [
        (0, 12.5),
        (12.5, 50),
        (62.5, 37.5),
    ]


def test_a_single_day_is_as_wide_as_the_chart() -> None:
    [area] = stacked_areas([ChartSeries("originals", [10])], ["today"], 100).areas

    assert area.path == "M0,0L100,0L100,100L0,100Z"


def test_no_numbers_make_an_empty_chart() -> None:
    chart = stacked_areas([ChartSeries("originals", [])], [], 100)

    assert (list(chart.columns), list(chart.areas)) == ([], [])
