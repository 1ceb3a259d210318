"""Which copies are kept."""

from datetime import UTC, datetime, timedelta

import pytest

from storage.backups.keep import Keep

NOON = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
HOURLY = [NOON - timedelta(hours=hours) for hours in range(24 * 30)]


def kept(keep: str, times: list[datetime]) -> list[datetime]:
    gone = set(Keep.parse(keep).surplus(times, NOON))
    return [time for time in times if time not in gone]


def test_the_newest_of_each_hour_and_of_each_day_is_kept() -> None:
    left = kept("24h,14d", HOURLY)

    assert left[:24] == HOURLY[:24]
    assert [time.hour for time in left[24:]] == [23] * 12  # the last copies of the twelve days before
    assert left[-1] == datetime(2026, 11, 16, 23, 30, tzinfo=UTC)


def test_hours_without_copies_do_not_count() -> None:
    monthly = [NOON - timedelta(days=30 * months) for months in range(6)]

    assert kept("2h,4d", monthly) == monthly[:4]


def test_of_two_copies_in_one_hour_the_newer_one_is_kept() -> None:
    assert kept("3h", [NOON, NOON - timedelta(minutes=20)]) == [NOON]


def test_the_only_copy_is_kept() -> None:
    assert kept("1d", [NOON]) == [NOON]
    assert kept("1h", []) == []


@pytest.mark.parametrize("keep", ["1h", "24h,14d"])
def test_copies_of_a_clock_that_ran_ahead_neither_go_nor_take_the_place_of_others(keep: str) -> None:
    ahead = [NOON + timedelta(hours=hours) for hours in range(1, 15 * 24)]
    without = kept(keep, HOURLY)

    assert kept(keep, [*ahead, *HOURLY]) == [*ahead, *without]


@pytest.mark.parametrize("text", ["", "24", "24h,24h", "0h", "-1d", "24h;14d", "1w", "99999999h", "h"])
def test_what_says_no_numbers_of_copies_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in 24h,14d"):
        Keep.parse(text)
