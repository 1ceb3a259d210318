"""When a worker's chores come."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
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


@pytest.mark.parametrize("seconds", [1, 15, 45, 90, 100, 2700, 3600])
def test_the_reconciler_comes_every_so_many_seconds_for_every_worker_at_the_same_moment(seconds: int) -> None:
    jobs: list[CronJob] = worker_settings(Settings(reconcile_interval=seconds))["cron_jobs"]
    [job] = [job for job in jobs if job.name == "reconcile:media:uploads"]
    moments = [datetime.now(UTC) + timedelta(days=1)]
    for _ in range(200):
        job.calculate_next(moments[-1])
        assert job.next_run is not None
        moments.append(job.next_run)

    periods = {(later - sooner).total_seconds() for sooner, later in pairwise(moments[1:])}
    assert periods == {seconds}
    assert moments[1].timestamp() % seconds == 0
    assert moments[1] - moments[0] <= timedelta(seconds=seconds)


def test_a_crontab_line_says_when_a_sweep_begins() -> None:
    jobs: list[CronJob] = worker_settings(Settings(sweep_cron="30 4 * * 1"))["cron_jobs"]
    [job] = [job for job in jobs if job.name.startswith("sweep")]
    when = {name: getattr(job, name) for name in ("month", "day", "weekday", "hour", "minute", "second")}

    assert job.name == "sweep:media:uploads"
    assert job.unique  # one worker does it
    saturday = datetime(2026, 11, 21, 12, 0, 0)
    assert next_cron(saturday, microsecond=0, **when) == datetime(2026, 11, 23, 4, 30, 0)


def test_without_a_crontab_line_no_sweep_begins() -> None:
    jobs: list[CronJob] = worker_settings(Settings(sweep_cron=""))["cron_jobs"]

    assert [job.name for job in jobs if "sweep" in job.name] == []
    assert len(jobs) > 0


def test_every_worker_goes_on_with_a_sweep_that_was_begun_also_one_that_begins_none() -> None:
    for burst in (False, True):
        functions = worker_settings(Settings(sweep_cron=""), burst=burst)["functions"]

        assert "sweep_on:media:uploads" in {function.name for function in functions}
