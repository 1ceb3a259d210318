"""What a live worker counts is what really came of its uploads, good, bad and deadly ones."""

import shutil
import subprocess
import time

import pytest

from scripts.processes import free_port
from tests.support import pictures
from tests.support.clients import WITH_SERVICES, package_missing
from tests.support.scraping import Scraped
from tests.support.stub_decoder import CRASH, EAT, HANG
from tests.support.workplace import Workplace, eventually


@pytest.fixture
def scraped(workplace: Workplace) -> Scraped:
    """A worker whose decoder dies of certain pictures, and its metrics."""
    port = free_port()
    workplace.start("stub", MEDIA_IMAGE_TIMEOUT="1", MEDIA_METRICS=f"127.0.0.1:{port}", MEDIA_SLOW_MS="0")
    return Scraped(port)


@WITH_SERVICES
def test_counts_equal_the_catalogs_after_good_bad_and_deadly_pictures(
    workplace: Workplace, scraped: Scraped
) -> None:
    good = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(10)]
    bad = [workplace.put(f"uploads/{n}.pdf", f"%PDF-1.{n}".encode()) for n in range(3)]
    deadly = [workplace.put(f"uploads/{mark!r}", pictures.small() + mark) for mark in (CRASH, HANG, EAT)]
    workplace.send_all({"source": source} for source in (*good, *bad, *deadly))
    workplace.send({"source": "elsewhere/cat.jpg"})
    # A decoder that a busy machine starves is tried again, some seconds later.
    ends = workplace.await_end_of(*good, *bad, *deadly, within=90)
    scraped.await_value(6, "media_uploads_total", outcome="failed")
    scraped.await_value(10, "media_uploads_total", outcome="ready")

    rows = workplace.check().uploads
    states = [row["state"] for row in rows.values()]
    # A picture whose decoder was starved is queued once more: that is no end, and is counted as what it is.
    ends_by_outcome = scraped.values("media_uploads_total")
    assert (ends_by_outcome["ready"], ends_by_outcome["failed"]) == (10, 6)
    assert (states.count("ready"), states.count("failed"), len(ends)) == (10, 6, 16)
    for code in {row["error_code"] for row in rows.values()} - {None}:
        failed = [row for row in rows.values() if row["error_code"] == code]
        assert scraped.value("media_upload_failures_total", code=code, blame="picture") == len(failed)
    assert scraped.values("media_events_total") == {"accepted": 16, "invalid_event": 1}


def test_what_is_done_is_counted_at_every_station(workplace: Workplace, scraped: Scraped) -> None:
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(5)]
    workplace.send_all({"source": source} for source in sources)
    workplace.await_end_of(*sources)
    scraped.await_value(5, "media_messages_total", type="upload.ready")

    written = sum(variant["bytes"] for message in workplace.messages for variant in message["variants"])
    assert scraped.values("media_pictures_total") == {"jpeg": 5}
    assert scraped.value("media_bytes_total", direction="written") == written
    for name in ("media_upload_age_seconds_count", "media_upload_duration_seconds_count"):
        assert scraped.value(name) == 5
    stages = ("wait", "read", "hash", "probe", "decode", "resize", "encode", "publish", "commit")
    assert scraped.values("media_stage_duration_seconds_count") == dict.fromkeys(stages, 5)
    for operation in ("intake", "claim", "commit", "outbox", "lock"):
        assert scraped.value("media_catalog_duration_seconds_count", operation=operation)
    for operation in ("open", "store", "exists", "probe"):
        assert scraped.value("media_storage_duration_seconds_count", operation=operation)


def test_the_exposition_of_a_live_worker_is_what_promtool_calls_good(
    workplace: Workplace, scraped: Scraped
) -> None:
    promtool = shutil.which("promtool") or package_missing("no promtool: apt-get install prometheus")

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=scraped.exposition, capture_output=True, check=False
    )

    assert (checked.returncode, checked.stderr.decode()) == (0, "")


def test_a_slow_statement_of_a_worker_is_a_line_in_its_log(workplace: Workplace) -> None:
    port = free_port()
    worker = workplace.start(MEDIA_METRICS=f"127.0.0.1:{port}", MEDIA_SLOW_MS="100")

    def is_told() -> bool:
        with workplace.database.locked():
            workplace.send({"delete": "6f1c2a9e-0000-4000-8000-000000000000"})
            time.sleep(0.3)  # how long it takes is what it is about
        return "BEGIN IMMEDIATE" in {each["statement"] for each in worker.logged("slow_statement")}

    eventually(is_told)  # a worker on a busy machine may ask only once the lock is gone

    [line, *_] = [each for each in worker.logged("slow_statement") if each["statement"] == "BEGIN IMMEDIATE"]
    assert 100 < line["ms"] < 10_000
    # Each is counted before it is logged, and another may come between two looks.
    eventually(
        lambda: Scraped(port).value("media_slow_statements_total") == len(worker.logged("slow_statement"))
    )
