"""What `--since` takes."""

from datetime import UTC, datetime, timedelta

import pytest

from scripts.reprocess import moment_ms
from scripts.terminal import CommandError


@pytest.mark.parametrize(
    ("text", "ago"),
    [("10m", timedelta(minutes=10)), ("36h", timedelta(hours=36)), ("7d", timedelta(days=7))],
)
def test_a_span_goes_back_from_now(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC) - ago
    found = datetime.fromtimestamp(moment_ms(text) / 1000, UTC)
    after = datetime.now(UTC) - ago

    assert before - timedelta(milliseconds=1) <= found <= after


@pytest.mark.parametrize("text", ["10", "10s", "m", "-1h", "1.5h", "10 m", "10M", "yesterday"])
def test_what_is_no_span_and_no_date_is_wrong_usage(text: str) -> None:
    with pytest.raises(CommandError, match="neither a date nor a span such as 10m, 36h or 7d"):
        moment_ms(text)
