"""Everything at once, where the catalog is in Postgres and the files are in a bucket."""

from pathlib import Path

import pytest

from scripts.postgres_server import PostgresNotFoundError
from scripts.s3_server import S3NotFoundError
from tests.chaos.driver import Report, run_chaos
from tests.support.clients import missing, skip_without_services
from tests.support.fork_server import CommandForks


@pytest.mark.fault(30, 31, 36, 54)
def test_six_seconds_of_everything_on_postgres_and_s3_lose_nothing(
    tmp_path: Path, fork_server: CommandForks
) -> None:
    report = six_seconds(tmp_path, fork_server)

    assert sum(report.faults.values()) >= 3
    assert len(report.unexpected) <= report.faults["kill_decoder"]
    assert (report.questions > 0, report.wrong_answers) == (True, [])
    assert report.tracebacks == []
    assert report.stderr_tails == []


def six_seconds(home: Path, fork_server: CommandForks) -> Report:
    skip_without_services()
    try:
        return run_chaos(
            home,
            uploads=40,
            seconds=6,
            workers=2,
            seed=21,
            in_full=False,
            catalog="postgres",
            storage="s3",
            fork_server=fork_server,
        )
    except (PostgresNotFoundError, S3NotFoundError) as error:
        missing(str(error))
        raise
