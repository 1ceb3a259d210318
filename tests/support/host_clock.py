"""A host whose clock is wrong: the one of the test's own process."""

import time
from collections.abc import Callable

import pytest

Clock = Callable[[float], None]


@pytest.fixture
def put_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Put this process' clock so many seconds ahead of the right time, or behind it."""
    right = time.time_ns

    def put(seconds: float) -> None:
        monkeypatch.setattr("storage.catalog.clock.wall_ns", lambda: right() + int(seconds * 1e9))

    return put
