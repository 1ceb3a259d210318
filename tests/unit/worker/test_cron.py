"""When a worker's periodic tasks run, and how long a job may take."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from arq.cron import CronJob

from pipelines.batch import NEW_WORK_S
from pipelines.sandbox import longest_render_s
from worker.main import worker_settings
from worker.settings import Settings

BEFORE_MIDNIGHT = datetime(2126, 11, 23, 23, 30, tzinfo=UTC)  # a Saturday to come: what is over is skipped


def test_the_totals_of_a_day_are_looked_at_every_hour_so_that_no_midnight_is_missed() -> None:
    jobs: list[CronJob] = worker_settings(Settings(reconcile_interval=15))["cron_jobs"]
    [job] = [job for job in jobs if job.name == "snapshot:media:uploads"]

    job.calculate_next(BEFORE_MIDNIGHT)
    assert job.next_run == datetime(2126, 11, 24, 0, 0, tzinfo=UTC)
    job.calculate_next(job.next_run)
    assert job.next_run == datetime(2126, 11, 24, 1, 0, tzinfo=UTC)
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

    job.calculate_next(BEFORE_MIDNIGHT)

    assert job.name == "sweep:media:uploads"
    assert job.unique  # one worker does it
    assert job.next_run == datetime(2126, 11, 25, 4, 30, tzinfo=UTC)


def test_without_a_crontab_line_no_sweep_begins() -> None:
    jobs: list[CronJob] = worker_settings(Settings(sweep_cron=""))["cron_jobs"]

    assert [job.name for job in jobs if "sweep" in job.name] == []
    assert len(jobs) > 0


def test_every_worker_goes_on_with_a_sweep_that_was_begun_also_one_that_begins_none() -> None:
    for burst in (False, True):
        functions = worker_settings(Settings(sweep_cron=""), burst=burst)["functions"]

        assert "sweep_on:media:uploads" in {function.name for function in functions}


def test_a_crontab_line_says_when_a_backup_begins(tmp_path: Path) -> None:
    settings = Settings(backup=str(tmp_path / "backup"), backup_cron="15 * * * *")
    [job] = [job for job in worker_settings(settings)["cron_jobs"] if "backup" in job.name]

    job.calculate_next(BEFORE_MIDNIGHT)

    assert (job.name, job.unique) == ("backup:media:uploads", True)  # one worker does it
    assert job.next_run == datetime(2126, 11, 24, 0, 15, tzinfo=UTC)


@pytest.mark.parametrize("said", [{}, {"backup": "/backup", "backup_cron": ""}])
def test_without_a_folder_or_a_crontab_line_no_backup_begins(said: dict[str, Any]) -> None:
    jobs: list[CronJob] = worker_settings(Settings(**said))["cron_jobs"]

    assert [job.name for job in jobs if "backup" in job.name] == []


@pytest.mark.parametrize("image_timeout", [0.5, 20, 600])
def test_a_job_has_time_for_every_attempt_at_an_image_that_it_takes_at_the_last_moment(
    image_timeout: float,
) -> None:
    [batch, *_] = worker_settings(Settings(image_timeout=image_timeout))["functions"]

    assert batch.timeout_s > NEW_WORK_S + longest_render_s(image_timeout)
