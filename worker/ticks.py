"""Ticks: when periodic tasks come, by a clock that may leap ahead or go back."""

import time
from datetime import datetime, tzinfo
from typing import Any

from arq.cron import CronJob, cron
from arq.typing import WorkerCoroutine

from storage.catalog.clock import now_ms

_STEP_S = 2.0  # a clock that went back by less is as good as right


class Tick(CronJob):
    """A cron job of arq that makes up for no tick it missed, and waits for none that has moved away.

    arq runs each tick that a clock leapt over, one by one, and after a step back none until that is over.
    """

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
        super().calculate_next(max(prev_run, _now(prev_run.tzinfo)))


class PeriodicTick(Tick):
    """A tick every `every_s` seconds, counted from 1970, so that all workers agree on it.

    arq's own `cron` knows only the seconds of a minute and the minutes of an hour.
    """

    every_s: int

    def calculate_next(self, prev_run: datetime) -> None:
        """Set the first tick after `prev_run` that is not over."""
        after = max(prev_run, _now(prev_run.tzinfo)).timestamp()
        self.next_run = datetime.fromtimestamp((after // self.every_s + 1) * self.every_s, prev_run.tzinfo)


def every(seconds: int, coroutine: WorkerCoroutine, **options: Any) -> PeriodicTick:  # noqa: ANN401 (arq's)
    """A job of arq that comes every so many seconds."""
    job = PeriodicTick(**vars(cron(coroutine, **options)))
    job.every_s = seconds
    return job


def tick(coroutine: WorkerCoroutine, **options: Any) -> Tick:  # noqa: ANN401 (arq's)
    """The same as arq's `cron`, as a Tick."""
    return Tick(**vars(cron(coroutine, **options)))


def _now(zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(now_ms() / 1000, zone)


def _lead_s() -> float:
    return now_ms() / 1000 - time.monotonic()
