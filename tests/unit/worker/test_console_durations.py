"""How the console words durations."""

import pytest

from worker.http.console.wording import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (3, "3 s"),
        (3.0, "3.0 s"),
        (0.42, "0.4 s"),
        (59, "59 s"),
        (61.5, "1 min"),
        (86_400, "1 day"),
    ],
)
def test_only_what_was_measured_finer_than_seconds_is_told_in_tenths(seconds: float, words: str) -> None:
    assert duration(seconds) == words
