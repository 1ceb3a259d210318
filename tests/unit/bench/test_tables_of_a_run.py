"""What a run amounts to: goals by class, tables for people, how many rounds fit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bench import compare, figures, report
from bench.classes import AVATARS, PHOTOS, SMALL
from bench.compare import Measured
from bench.contenders import ALL, Celery
from bench.goals import RATIOS, Goal, goal_table, goals
from bench.rounds import Round
from bench.summaries import FLOOR, OURS, summarise
from scripts import readme


def a_round(
    title: str, seconds: float, cores: int = 1, name: str = PHOTOS, singles: tuple[float, ...] = ()
) -> Round:
    """100 pictures of 50 CPU ms each in that time, with variants of 321 kB for each."""
    cpu = {"worker": 20.0, "worker: children": 29.0, "redis": 1.0}
    stages = {"decode": 3.0, "encode": 1.0}
    made = Round(title, cores, 100, seconds, cpu, 100_000_000, 1, 321_000, 1, 0.0, singles)
    return replace(made, picture_class=name, stages=stages, kernel={"worker": 5.0})


def found_by_what(*rounds: Round) -> dict[tuple[str, str], Goal]:
    return {(goal.picture_class, goal.what): goal for goal in goals(summarise(rounds))}


def test_goals_are_compared_with_medians() -> None:
    ours = [a_round(OURS, seconds) for seconds in (10, 10, 40)]
    floor = [a_round(FLOOR, seconds) for seconds in (10.5, 1, 10.5)]
    found = found_by_what(*ours, *floor)[PHOTOS, f"images/s on one core, times {FLOOR}"]

    assert found.found == pytest.approx(1.05)
    assert found.met
    assert not found.is_aim_reached


def test_each_class_and_each_number_of_cores_has_goals_of_its_own() -> None:
    each = [(name, cores) for name in (PHOTOS, SMALL) for cores in (1, 2)]
    found = found_by_what(
        *(
            a_round(title, seconds, cores, name)
            for name, cores in each
            for title, seconds in ((OURS, 10), (FLOOR, 10))
        )
    )

    at = {key: goal.met for key, goal in found.items() if key[1].endswith(FLOOR)}
    assert at == {
        (PHOTOS, f"images/s on one core, times {FLOOR}"): False,
        (PHOTOS, f"images/s on two cores, times {FLOOR}"): False,
        (SMALL, f"images/s on one core, times {FLOOR}"): True,
        (SMALL, f"images/s on two cores, times {FLOOR}"): True,
    }


def test_a_single_upload_may_take_a_fifth_and_30_ms_longer_than_the_loop() -> None:
    floor = a_round(FLOOR, 10, singles=(100.0,))
    what = PHOTOS, "a single upload when idle, p50, ms"

    assert found_by_what(a_round(OURS, 10, singles=(149.0,)), floor)[what].met
    assert not found_by_what(a_round(OURS, 10, singles=(151.0,)), floor)[what].met


def test_what_is_only_told_is_never_missed() -> None:
    found = found_by_what(a_round(OURS, 10, name=SMALL), a_round(Celery.title, 5, name=SMALL))
    told = found[SMALL, f"images/s on one core, times {Celery.title}"]

    assert told.found == pytest.approx(0.5)
    assert told.met
    assert (
        "| small | images/s on one core, times Celery + Pillow | told | 1 | 0.5 | below the aim |"
        in goal_table([told])
    )


def test_every_ratio_names_a_contender_that_takes_part() -> None:
    titles = {kind.title for kind in ALL}

    assert {ratio.title for ratios in RATIOS.values() for ratio in ratios} < titles


def test_the_table_names_everybody_and_where_it_was_measured() -> None:
    measured = Measured([a_round(OURS, 10), a_round(FLOOR, 8)], ["A peer: no node"], 125)
    table = report.markdown(measured, {"cpu": "one of some make"})

    assert "Camera photos:" in table
    assert "| **media-worker** | 1 | 10.0 | 0.80 | 50 | 321 | 100 MB |" in table
    assert "One round in 2 minutes, too few to prove anything; " in table
    assert "cpu one of some make" in table
    assert "Not measured: A peer: no node" in table


@pytest.mark.parametrize(("others", "is_said"), [(0.05, False), (0.4, True)])
def test_the_table_says_where_the_machine_was_too_busy(others: float, is_said: bool) -> None:
    table = report.markdown(Measured([replace(a_round(OURS, 10), others=others)]), {})

    assert ("proves little" in table) is is_said


def test_several_rounds_have_a_spread_and_one_has_none() -> None:
    table = report.markdown(Measured([a_round(OURS, 9), a_round(OURS, 11)], seconds=20), {})

    assert "| 10.1 ± 10 % |" in table
    assert "Medians of 2 interleaved rounds in 1 minute, ± half of their range" in table


def test_contenders_stand_in_the_same_order_whoever_came_first() -> None:
    found = summarise([a_round(FLOOR, 10), a_round(OURS, 10), a_round(OURS, 10, name=AVATARS)])

    assert [(one.picture_class, one.title) for one in found] == [
        (PHOTOS, OURS),
        (PHOTOS, FLOOR),
        (AVATARS, OURS),
    ]


def test_the_readme_gets_a_row_for_each_contender_of_each_class() -> None:
    small = [a_round(OURS, 20, name=SMALL), a_round(FLOOR, 8, name=SMALL)]
    photos = [
        a_round(OURS, 10, singles=(80.0, 80.0)),
        a_round(FLOOR, 8),
        a_round(OURS, 5, 2),
        a_round(FLOOR, 4, 2),
    ]
    lines = report.for_readme(Measured([*photos, *small]), {"cpu": "a fast one"})
    page = readme.README.read_text("utf-8")

    once = readme.with_part(page, "bench", lines)

    row = "| **media-worker** | 10.0 | 0.80 | 20.0 | 0.80 | 50 | 321 | 100 / 100 MB |"
    assert f"{row} 80 / 80 / 80 ms |" in once
    assert "| **media-worker** | 5.0 | 0.40 | 50 | 321 | 100 MB |" in once, "the small pictures"
    assert "Measured on: cpu a fast one." in once
    assert readme.with_part(once, "bench", lines) == once


def test_the_page_of_performance_has_places_for_goals_and_stages() -> None:
    page = (readme.DOCS / "performance.md").read_text("utf-8")
    measured = Measured([a_round(OURS, 10), a_round(FLOOR, 12)])
    filled = readme.with_part(page, "goals", report.for_goals(measured))
    filled = readme.with_part(filled, "stages", [figures.stage_table(summarise(measured.rounds), PHOTOS)])

    assert (
        "| photos | images/s on one core, times libvips loop | at least 1.03 | 1.1 | 1.2 | yes, and" in filled
    )
    assert "| Camera photos | ms |" in filled


def test_programs_get_every_round_and_every_goal_with_its_class() -> None:
    measured = Measured([a_round(OURS, 10, name=SMALL), a_round(FLOOR, 8, name=SMALL)], seconds=3)
    read = json.loads(json.dumps(report.as_json(measured, {})))

    assert {one["picture_class"] for one in (*read["rounds"], *read["goals"])} == {SMALL}
    assert read["seconds"] == 3


def test_the_time_of_a_picture_is_told_by_stage_for_each_class() -> None:
    found = summarise([a_round(OURS, 10, name=SMALL), a_round(FLOOR, 8, name=SMALL)])
    table = figures.stage_table(found, SMALL)

    assert "| decode | 21.8 |" in table, "three quarters of the decoder's 29 ms"
    assert "| publish, catalog, queue | 15.0 |" in table
    assert "| kernel: files, sockets | 5.0 |" in table
    assert "| total | 50.0 |" in table
    assert figures.stages(found, PHOTOS) is None
    assert ElementTree.fromstring(figures.stages(found, SMALL) or "").tag.endswith("svg")


@pytest.mark.parametrize(("limit_s", "rounds"), [(0, 1), (24, 2), (30, 3), (1000, 5)])
def test_no_round_begins_that_would_not_end_in_time(limit_s: float, rounds: int) -> None:
    now = 0.0

    def each_of_ten_seconds() -> Iterator[int]:
        nonlocal now
        for number in range(5):
            now += 10
            yield number

    assert len(list(compare.within(limit_s, 0, each_of_ten_seconds(), lambda: now))) == rounds
