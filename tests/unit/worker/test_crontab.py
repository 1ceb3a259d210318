"""Crontab lines: what they mean, and which are refused."""

from datetime import datetime

import pytest

from worker.crontab import check_crontab, next_after

SATURDAY = datetime(2026, 11, 21, 12, 30)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 3 * * *", datetime(2026, 11, 22, 3, 0)),
        ("*/20 * * * *", datetime(2026, 11, 21, 12, 40)),
        ("5,35 12-13 * * *", datetime(2026, 11, 21, 12, 35)),
        ("0 3 * * 0", datetime(2026, 11, 22, 3, 0)),
        ("0 3 * * 7", datetime(2026, 11, 22, 3, 0)),
        ("0 3 * * sun", datetime(2026, 11, 22, 3, 0)),
        ("0 3 * * 1-5", datetime(2026, 11, 23, 3, 0)),
        ("15 4 1 */6 *", datetime(2027, 1, 1, 4, 15)),
        ("0 0 29 2 *", datetime(2028, 2, 29)),
    ],
)
def test_a_line_comes_when_cron_would_have_it_come(line: str, expected: datetime) -> None:
    check_crontab(line)

    assert next_after(line, SATURDAY) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nightly", "five fields"),
        ("0 3 * *", "five fields"),
        ("60 3 * * *", "'60' where numbers from 0 to 59"),
        ("0 5-3 * * *", "'5-3' where numbers from 0 to 23"),
        ("*/0 3 * * *", "'\\*/0' where numbers"),
        ("0 3 * * someday", "'someday' where numbers"),
        ("0 3 1 * 1", "not both"),
        ("0 3 31 2,4 *", "a day that never comes"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused_with_a_reason(line: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        check_crontab(line)
