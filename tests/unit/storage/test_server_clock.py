"""The clock of a server, as a host reads it that asks now and then, over a network that may be slow."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from storage.catalog import server_clock
from storage.catalog.server_clock import DOUBTFUL_S, MEASURE_AGAIN_S, MEASURE_SOON_S, ServerClock
from storage.catalog.sqlalchemy_parts import AsyncConnection

FIVE_MINUTES_S = 300.0


class HostClock:
    """A host with a steady clock, and a server with one of its own, as far away as is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steady_s, self.server_s = 1000.0, 1_700_000_000.0
        self.there_s, self.back_s = 0.005, 0.005
        self.asked = 0
        self.clock = ServerClock()
        self._connection = self.new_connection()
        monkeypatch.setattr(server_clock, "steady_s", lambda: self.steady_s)
        monkeypatch.setattr("storage.catalog.clock.wall_ns", lambda: 0)

    def new_connection(self) -> AsyncConnection:
        """What SQLAlchemy offers, as far as it is asked here."""

        async def execute(_: object) -> Any:
            self.asked += 1
            self.go_by(self.there_s)
            server_s = self.server_s
            self.go_by(self.back_s)
            return SimpleNamespace(scalar_one=lambda: server_s)

        async def exec_driver_sql(_: str) -> None:
            self.go_by(self.there_s + self.back_s)

        return cast(
            AsyncConnection, SimpleNamespace(info={}, execute=execute, exec_driver_sql=exec_driver_sql)
        )

    def go_by(self, seconds: float, drift: float = 0.0) -> None:
        self.server_s += seconds
        self.steady_s += seconds * (1 + drift)

    async def transaction(self, connection: AsyncConnection | None = None) -> None:
        await self.clock.keep_right(connection or self._connection)

    @property
    def error_s(self) -> float:
        """By how much the host reads the server's clock wrong."""
        return self.clock.now_ms() / 1000 - self.server_s


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostClock:
    return HostClock(monkeypatch)


async def test_the_time_is_the_servers_whatever_the_clock_of_the_host_says(host: HostClock) -> None:
    await host.transaction()
    host.go_by(30)

    assert host.error_s == pytest.approx(0, abs=0.002)


async def test_the_server_is_asked_again_after_a_minute(host: HostClock) -> None:
    await host.transaction()
    host.go_by(MEASURE_AGAIN_S - 1)
    await host.transaction()
    once = host.asked
    host.go_by(1)
    await host.transaction()

    assert (once, host.asked) == (1, 2)


async def test_a_new_connection_may_lead_to_another_server_and_is_asked_at_once(host: HostClock) -> None:
    await host.transaction()
    host.server_s -= FIVE_MINUTES_S
    other = host.new_connection()
    for _ in range(2):
        await host.transaction(other)

    assert host.asked == 2
    assert host.error_s == pytest.approx(0, abs=0.002)


async def test_a_slow_round_trip_is_not_believed_where_a_quick_one_is_known(host: HostClock) -> None:
    await host.transaction()
    host.go_by(MEASURE_AGAIN_S)
    host.there_s = 4.0  # and back at once: the middle is wrong by nearly two seconds
    await host.transaction()

    assert host.asked == 2
    assert host.error_s == pytest.approx(0, abs=0.002)


async def test_a_measure_is_worth_less_the_longer_ago_it_was(host: HostClock) -> None:
    await host.transaction()
    host.go_by(2 * 3600, drift=2e-5)
    stale_s = host.error_s
    host.there_s = host.back_s = 0.25
    await host.transaction()

    assert stale_s == pytest.approx(0.144, abs=0.002)
    assert host.error_s == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("there_s", [0.005, 4.0])
async def test_a_clock_that_the_server_put_right_is_followed_however_slow_the_answer(
    host: HostClock, there_s: float
) -> None:
    await host.transaction()
    host.go_by(MEASURE_AGAIN_S)
    host.server_s -= FIVE_MINUTES_S
    host.there_s = there_s
    await host.transaction()

    assert abs(host.error_s) <= there_s / 2 + 0.005


async def test_a_first_answer_that_took_long_is_believed_and_soon_asked_for_again(host: HostClock) -> None:
    host.there_s = 4.0
    await host.transaction()
    doubtful_s = host.error_s
    host.there_s = 0.005
    host.go_by(MEASURE_SOON_S)
    await host.transaction()

    assert DOUBTFUL_S < abs(doubtful_s) < 2.1
    assert host.error_s == pytest.approx(0, abs=0.002)
