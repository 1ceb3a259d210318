"""The periodic tasks of a worker: which there are, and when they run, by a clock that may leap or go back."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from functools import partial

from arq.cron import CronJob, cron
from arq.typing import WorkerCoroutine
from arq.worker import Function, func

from storage.catalog.clock import now_ms
from worker import tasks
from worker.crontab import next_after
from worker.settings import Settings

_TIMEOUT_S = 60
_SWEEP_TIMEOUT_S = 300  # of one try: its last step may meet a slow disk
_BACKUP_TIMEOUT_S = 4 * 3600  # of a catalog of many GB
_TRIES = 5
_AN_HOUR_S = 3600  # for a daily task, or no worker runs it that is down at midnight
_STEP_S = 2.0  # a clock that went back by less is as good as right

Schedule = Callable[[datetime], datetime]
"""Returns the first tick after a moment."""


def cron_jobs(settings: Settings) -> Sequence[CronJob]:
    """The periodic tasks with their schedules; sweeps and backups only where the settings say when."""
    schedules = {
        tasks.reconcile: every(settings.reconcile_interval),
        tasks.adopt: every(settings.reconcile_interval),
        tasks.snapshot: every(_AN_HOUR_S),
    }
    if settings.sweep_cron:
        schedules[tasks.sweep] = partial(next_after, settings.sweep_cron)
    if settings.backup and settings.backup_cron:
        schedules[tasks.backup] = partial(next_after, settings.backup_cron)
    return [
        tick(schedule, task, name=_name_of(task, settings), timeout_s=_TIMEOUT_S)
        for task, schedule in schedules.items()
    ]


def functions(settings: Settings, *, burst: bool) -> Sequence[Function]:
    """Functions that arq runs besides cron jobs: those that were begun by one; in a burst also every task."""
    periodic: Sequence[WorkerCoroutine] = (
        tasks.reconcile,
        tasks.adopt,
        tasks.snapshot,
        tasks.sweep,
        tasks.backup,
    )
    return [
        func(tasks.back_up, name=_name_of(tasks.back_up, settings), timeout=_BACKUP_TIMEOUT_S),
        func(tasks.sweep_on, name=_name_of(tasks.sweep_on, settings), timeout=_SWEEP_TIMEOUT_S),
        *(func(task, name=_name_of(task, settings)) for task in periodic if burst),
    ]


def _name_of(task: WorkerCoroutine, settings: Settings) -> str:
    """The name of a task for arq; it holds the stream, because arq's keys do not hold the queue."""
    return f"{task.__qualname__}:{settings.stream}"


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
    # With arq's own single try, a tick whose worker died in it would be dropped by whoever takes it over.
    job = Tick(**vars(cron(coroutine, name=name, timeout=timeout_s, max_tries=_TRIES)))
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
