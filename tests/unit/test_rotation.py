"""Which cases of a costly test the suite runs on which day."""

from datetime import date, timedelta

import pytest

from tests.support.rotation import DAY, of_day, rotate

pytest_plugins = ["pytester"]

MODULE = """
import pytest
pytestmark = pytest.mark.rotating(2, of="module")
def test_a(): pass
def test_b(): pass
@pytest.mark.parametrize("case", range(3))
def test_c(case): pass
@pytest.mark.rotating(1)
def test_first(): pass
"""
CASES = [f"test_something[{number}]" for number in range(7)]
TODAY = date(2026, 3, 1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_case_has_its_turn_within_so_many_days_as_there_are_parts(count: int) -> None:
    days = [TODAY + timedelta(days=number) for number in range(-(-len(CASES) // count))]

    assert set().union(*(of_day(CASES, count, day) for day in days)) == set(CASES)


def test_a_day_has_the_same_cases_in_whichever_order_they_were_found() -> None:
    assert of_day(CASES, 2, TODAY) == of_day(CASES[::-1], 2, TODAY)
    assert len(of_day(CASES, 2, TODAY)) == 2


def test_no_more_cases_are_wanted_than_there_are() -> None:
    assert of_day(CASES[:2], 3, TODAY) == set(CASES[:2])


def test_of_a_costly_module_some_tests_have_their_turn_and_a_marked_one_runs_each_day(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.rotation.SERVICES", True)
    ran: list[str] = []
    for number in range(3):
        monkeypatch.setenv(DAY, str(TODAY + timedelta(days=number)))
        items = pytester.getitems(MODULE)
        rotate(items[0].config, items)
        assert len(items) == 2 + 1
        ran += [item.name for item in items]

    assert ran.count("test_first") == 3
    assert set(ran) == {"test_a", "test_b", "test_c[0]", "test_c[1]", "test_c[2]", "test_first"}
