"""Which cases of a costly test the suite runs on which day."""

from datetime import date, timedelta

import pytest

from tests.support.rotation import of_day

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
