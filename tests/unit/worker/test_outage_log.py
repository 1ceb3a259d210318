"""What the log says of a catalog that is away: two lines, whatever happens meanwhile."""

from structlog.testing import capture_logs

from storage.errors import CatalogUnavailable
from worker.outage_log import OutageLog

AWAY = CatalogUnavailable("the catalog did not answer")


def test_an_outage_is_a_line_at_its_begin_and_one_at_its_end_and_the_next_one_too() -> None:
    outage_log = OutageLog()

    with capture_logs() as logged:
        for _ in range(2):
            for _ in range(3):
                outage_log.met(AWAY)
            outage_log.over()
            outage_log.over()

    lines = [line for line in logged if line["log_level"] != "debug"]
    assert [line["event"] for line in lines] == ["catalog_unavailable", "catalog_available"] * 2
    assert (lines[0]["reason"], lines[0]["log_level"]) == (str(AWAY), "warning")
    assert lines[1]["away_s"] >= 0


def test_the_traceback_of_an_outage_is_for_debugging() -> None:
    with capture_logs() as logged:
        OutageLog().met(AWAY)

    assert [line["log_level"] for line in logged if "exc_info" in line] == ["debug"]
