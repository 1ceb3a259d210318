"""Moments as people and programs read them."""

from pipelines.moments import moment


def test_a_moment_is_written_in_utc() -> None:
    assert moment(0) == "1970-01-01T00:00:00+00:00"
