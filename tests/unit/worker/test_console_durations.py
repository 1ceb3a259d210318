"""How the console words durations, moments and limits."""

import pytest

from worker.http.console.wording import duration, limit, memory, moment


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


@pytest.mark.parametrize(
    ("moment_ms", "words"), [(2**62, "9999-12-31T23:59:59Z"), (-(2**62), "0001-01-01T00:00:00Z")]
)
def test_a_moment_that_no_calendar_has_is_the_last_or_the_first_of_all(moment_ms: int, words: str) -> None:
    assert moment(moment_ms) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(10 << 20, "10 MiB"), (1536 << 10, "1,536 KiB"), (5_000_000, "5,000,000 bytes"), (0, "0 bytes")],
)
def test_a_limit_is_told_in_the_binary_unit_in_which_it_is_set(number: int, words: str) -> None:
    assert limit(number) == words


def test_memory_is_told_in_the_unit_of_its_limit() -> None:
    assert (memory(512 << 20), memory(123_456_789)) == ("512 MiB", "118 MiB")
