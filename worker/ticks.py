"""Ticks: when periodic tasks come, by a clock that may leap ahead or go back."""

import time
from collections.abc import Callable
from datetime import datetime, tzinfo

from arq.cron import CronJob, cron
from arq.typing import WorkerCoroutine

from storage.catalog.clock import now_ms

Schedule = Callable[[datetime], datetime]
"""Returns the first tick after a moment."""

_STEP_S = 2.0  # a clock that went back by less is as good as right


class Tick(CronJob):
    """A cron job of arq that skips missed ticks, and comes at its pace after every step of the clock.

    arq's own runs each tick that the clock leapt over, and after a step back none before the old time.
    """

    schedule: Schedule
    _next: datetime | None = None
    _ahead_s = 0.0  # the wall clock's lead over the monotonic one, when the next tick was set

    @property
    def next_run(self) -> datetime | None:
        """When the task is to run next."""
        if self._next is not None and _lead_s() < self._ahead_s - _STEP_S:
            self.calculate_next(_now(self._next.tzinfo))
        return self._next

    @next_run.setter
    def next_run(self, moment: datetime | None) -> None:
        self._next = moment
        self._ahead_s = _lead_s()

    def calculate_next(self, prev_run: datetime) -> None:
        """Set the first tick after `prev_run` that is not over."""
        self.next_run = self.schedule(max(prev_run, _now(prev_run.tzinfo)))


def tick(schedule: Schedule, coroutine: WorkerCoroutine, *, name: str, timeout_s: int) -> Tick:
    """A cron job of arq that runs when the schedule says so."""
    job = Tick(**vars(cron(coroutine, name=name, timeout=timeout_s)))
    job.schedule = schedule
    return job


def every(seconds: int) -> Schedule:
    """A schedule with a tick every so many seconds, counted from 1970, so that all workers agree on it."""

    def next_after(moment: datetime) -> datetime:
        return datetime.fromtimestamp((moment.timestamp() // seconds + 1) * seconds, moment.tzinfo)

    return next_after


def _now(zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(now_ms() / 1000, zone)


def _lead_s() -> float:
    return now_ms() / 1000 - time.monotonic()
