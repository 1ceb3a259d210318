"""When a worker's chores come."""

from datetime import datetime

from arq.cron import CronJob, next_cron

from worker.main import worker_settings
from worker.settings import Settings


def test_the_totals_of_a_day_are_looked_at_every_hour_so_that_no_midnight_is_missed() -> None:
    jobs: list[CronJob] = worker_settings(Settings(reconcile_interval=15))["cron_jobs"]
    [job] = [job for job in jobs if job.name == "snapshot:media:uploads"]
    when = {name: getattr(job, name) for name in ("month", "day", "weekday", "hour", "minute", "second")}

    after = next_cron(datetime(2026, 11, 21, 23, 30, 0), microsecond=0, **when)

    assert after == datetime(2026, 11, 22, 0, 0, 0)
    assert next_cron(after, microsecond=0, **when) == datetime(2026, 11, 22, 1, 0, 0)
    assert job.unique  # one worker does it
