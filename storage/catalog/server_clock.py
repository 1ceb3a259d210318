"""The clock of a catalog's server, as a host reads it between two measures."""

import time

from sqlalchemy import text

from storage.catalog import clock
from storage.catalog.sqlalchemy_parts import AsyncConnection

MEASURE_AGAIN_S = 60.0
DOUBTFUL_S = 1.0  # a measure that may be wrong by more than that is soon made again
MEASURE_SOON_S = 5.0
_DRIFT = 1e-4  # seconds that a steady clock may gain or lose in one: a measure becomes worse by that
_NOW = text("SELECT extract(epoch FROM clock_timestamp())")
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the first goes on while a host is suspended
_ASKED = "asked for the time"


def steady_s() -> float:
    """Seconds since some moment, by a clock that nobody puts right."""
    return time.clock_gettime(_STEADY)


class ServerClock:
    """The server's time, by its lead over this host's steady clock."""

    def __init__(self) -> None:
        self._lead_s: float | None = None
        self._error_s = 0.0
        self._measured_at = self._asked_at = 0.0

    def now_ms(self) -> int:
        """This moment in ms since 1970; by the host's clock before the first measure."""
        return clock.now_ms() if self._lead_s is None else int((self._lead_s + steady_s()) * 1000)

    async def keep_right(self, connection: AsyncConnection) -> None:
        """Ask the server for its time, once a minute and on each new connection: it may be another server."""
        if _ASKED not in connection.info or self._is_over():
            await connection.exec_driver_sql("SELECT 1")  # begins the transaction, which is not to count
            began = steady_s()
            server_s = float((await connection.execute(_NOW)).scalar_one())
            self._note(began, server_s, steady_s())
            connection.info[_ASKED] = True

    def _is_over(self) -> bool:
        pause_s = MEASURE_AGAIN_S if self._error_s <= DOUBTFUL_S else MEASURE_SOON_S
        return steady_s() - self._asked_at >= pause_s

    def _note(self, began: float, server_s: float, ended: float) -> None:
        """Keep that measure where it is at least as good as the last one is by now, or contradicts it."""
        self._asked_at = ended
        error_s, lead_s = (ended - began) / 2, server_s - (began + ended) / 2
        last_s = self._error_s + (ended - self._measured_at) * _DRIFT
        differs = self._lead_s is None or abs(lead_s - self._lead_s) > error_s + last_s
        if differs or error_s <= last_s:
            self._lead_s, self._error_s, self._measured_at = lead_s, error_s, ended
