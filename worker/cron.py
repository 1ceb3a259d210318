"""The periodic tasks of a worker: which there are, and when they run."""

from collections.abc import Sequence
from functools import partial

from arq.cron import CronJob
from arq.typing import WorkerCoroutine
from arq.worker import Function, func

from worker import tasks
from worker.crontab import next_after
from worker.settings import Settings
from worker.ticks import every, tick

_TIMEOUT_S = 60
_SWEEP_TIMEOUT_S = 300  # of one try: its last step may meet a slow disk
_AN_HOUR_S = 3600  # for a daily task, or no worker runs it that is down at midnight


def cron_jobs(settings: Settings) -> Sequence[CronJob]:
    """The periodic tasks with their schedules; a sweep only where the settings have a crontab line for it."""
    schedules = {
        tasks.reconcile: every(settings.reconcile_interval),
        tasks.adopt: every(settings.reconcile_interval),
        tasks.snapshot: every(_AN_HOUR_S),
    }
    if settings.sweep_cron:
        schedules[tasks.sweep] = partial(next_after, settings.sweep_cron)
    return [
        tick(schedule, task, name=_name_of(task, settings), timeout_s=_TIMEOUT_S)
        for task, schedule in schedules.items()
    ]


def functions(settings: Settings, *, burst: bool) -> Sequence[Function]:
    """Functions that arq runs besides cron jobs: a sweep that was begun; in a burst also every task."""
    periodic: Sequence[WorkerCoroutine] = (tasks.reconcile, tasks.adopt, tasks.snapshot, tasks.sweep)
    return [
        func(tasks.sweep_on, name=_name_of(tasks.sweep_on, settings), timeout=_SWEEP_TIMEOUT_S),
        *(func(task, name=_name_of(task, settings)) for task in periodic if burst),
    ]


def _name_of(task: WorkerCoroutine, settings: Settings) -> str:
    """The name of a task for arq; it holds the stream, because arq's keys do not hold the queue."""
    return f"{task.__qualname__}:{settings.stream}"
