"""The series of a worker: one table says which there are, and nothing that comes in adds another."""

import time
from math import inf
from uuid import uuid4

import pytest
import structlog

from pipelines.metrics import EndedTry
from tests.support.exposed import families, value
from worker.metrics import WorkerMetrics
from worker.retry import CODES, blame_of
from worker.series import SERIES, Series


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics()


def test_what_is_exposed_is_what_the_table_says_beside_what_is_known_of_the_process(
    metrics: WorkerMetrics,
) -> None:
    exposed = families(metrics.exposition())
    ours = [(name, family.type, family.documentation) for name, family in exposed.items()]

    assert [one for one in ours if not one[0].startswith("process_")] == [
        (_parsed_name(series), _parsed_type(series), series.question) for series in SERIES
    ]
    assert "process_resident_memory_bytes" in exposed


def _parsed_name(series: Series) -> str:
    return series.name.removesuffix("_total") if series.type == "counter" else series.name


def _parsed_type(series: Series) -> str:
    return "gauge" if series.type == "info" else series.type  # the text format has no type for them


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_a_name_has_our_prefix_and_a_unit_and_a_question(series: Series) -> None:
    assert series.name.startswith("media_")
    assert series.name.endswith("_total") == (series.type == "counter")
    if series.type == "histogram":
        assert series.name.endswith("_seconds")
        assert list(series.buckets) == sorted(series.buckets)
    assert "?" in series.question


def test_all_series_of_counters_and_histograms_are_there_from_the_start(metrics: WorkerMetrics) -> None:
    exposed = families(metrics.exposition())

    for series in SERIES:
        if series.type in ("counter", "histogram"):
            samples = exposed[_parsed_name(series)].samples
            labels = {tuple(sample.labels[name] for name in series.labels) for sample in samples}
            assert labels == set(series.children), series.name


def test_ten_thousand_uploads_add_no_series(metrics: WorkerMetrics) -> None:
    before = metrics.exposition().count(b"\n")
    for number in range(10_000):
        code = f"code_{number}" if number % 2 else None
        metrics.upload_tried(EndedTry(f"outcome_{number % 7}", 0.1, code, 1.0))
        metrics.stages_finished({"decode": 12.0, uuid4().hex: 1.0})
        metrics.picture_made(f"format_{number}", 10, 10, 10)
        metrics.events_taken(1, [f"reason_{number}"])

    assert metrics.exposition().count(b"\n") == before
    assert value(metrics.exposition(), "media_upload_failures_total", code="other", blame="us") == 5000
    assert value(metrics.exposition(), "media_uploads_total", outcome="other") == 10_000
    assert value(metrics.exposition(), "media_events_total", result="other") == 10_000


def test_every_code_has_one_blame_and_a_bad_picture_is_no_fault_of_ours() -> None:
    ours = {code for code in CODES if blame_of(code) == "us"}

    assert ours == {
        "catalog_unavailable",
        "decoder_unavailable",
        "internal_error",
        "storage_full",
        "storage_unavailable",
        "unknown_recipe",
    }
    assert blame_of("a code that nobody foresaw") == "us"


def test_only_what_is_ready_counts_in_the_times_that_users_see(metrics: WorkerMetrics) -> None:
    metrics.upload_tried(EndedTry("ready", 0.3, None, 1.5))
    metrics.upload_tried(EndedTry("failed", 60.0, "decode_timeout", 60.0))

    for name in ("media_upload_duration_seconds", "media_upload_age_seconds"):
        assert value(metrics.exposition(), f"{name}_count") == 1
    assert value(metrics.exposition(), "media_upload_duration_seconds_sum") == 0.3
    assert value(metrics.exposition(), "media_upload_age_seconds_sum") == 1.5
    assert (
        value(metrics.exposition(), "media_upload_failures_total", code="decode_timeout", blame="picture")
        == 1
    )


def test_the_time_of_a_worker_is_all_that_this_process_has_taken(metrics: WorkerMetrics) -> None:
    before = time.process_time()
    first = value(metrics.exposition(), "media_worker_cpu_seconds_total")
    while time.process_time() < before + 0.02:
        pass

    assert first is not None
    assert before <= first
    assert (value(metrics.exposition(), "media_worker_cpu_seconds_total") or 0) >= first + 0.01


def test_what_nobody_knows_yet_is_no_series_and_not_zero(metrics: WorkerMetrics) -> None:
    assert value(metrics.exposition(), "media_last_success_timestamp_seconds", task="backup") is None
    metrics.show("media_last_success_timestamp_seconds", {"backup": 1.8e9, "tidying": 1.0})

    assert value(metrics.exposition(), "media_last_success_timestamp_seconds", task="backup") == 1.8e9
    assert value(metrics.exposition(), "media_last_success_timestamp_seconds", task="tidying") is None
    metrics.show("media_last_success_timestamp_seconds", None)
    assert value(metrics.exposition(), "media_last_success_timestamp_seconds", task="backup") is None


def test_what_was_found_out_too_long_ago_is_no_series_until_it_is_found_out_anew() -> None:
    now = 0.0
    metrics = WorkerMetrics(clock=lambda: now)
    metrics.show("media_queue_oldest_age_seconds", 0, for_s=60)
    metrics.show("media_decoders", 4)
    now = 59.0
    assert value(metrics.exposition(), "media_queue_oldest_age_seconds") == 0
    now = 60.0

    assert value(metrics.exposition(), "media_queue_oldest_age_seconds") is None
    assert value(metrics.exposition(), "media_decoders") == 4
    metrics.show("media_queue_oldest_age_seconds", 7, for_s=60)
    assert value(metrics.exposition(), "media_queue_oldest_age_seconds") == 7


def test_a_slow_statement_is_one_line_of_its_first_200_characters_and_is_counted(
    metrics: WorkerMetrics,
) -> None:
    with structlog.testing.capture_logs() as lines:
        metrics.watches(100).catalog.was_slow("SELECT " + "x" * 300, 0.25)

    [line] = lines
    assert (line["event"], line["ms"]) == ("slow_statement", 250)
    assert line["statement"] == "SELECT " + "x" * 193
    assert value(metrics.exposition(), "media_slow_statements_total") == 1


def test_a_worker_whose_operator_asks_for_no_slow_statements_has_none(metrics: WorkerMetrics) -> None:
    assert metrics.watches(0).catalog.slow_s == inf


def test_a_scrape_costs_less_than_10_ms_of_cpu(metrics: WorkerMetrics) -> None:
    metrics.exposition()
    took = []
    for _ in range(20):
        began = time.thread_time()
        metrics.exposition()
        took.append(time.thread_time() - began)

    assert min(took) < 0.01
    assert len(metrics.exposition()) < 64 * 1024


def test_counting_an_upload_costs_less_than_a_hundredth_of_working_on_it(metrics: WorkerMetrics) -> None:
    """A worker takes about 10 ms of CPU an upload, besides what its decoders do."""
    stages = dict.fromkeys(("read", "hash", "probe", "decode", "resize", "encode", "publish", "upload"), 1.0)
    began = time.thread_time()
    for _ in range(1000):
        metrics.events_taken(1, [])
        metrics.stages_finished(stages)
        metrics.stage_finished("wait", 0.01)
        metrics.stage_finished("commit", 0.01)
        metrics.picture_made("jpeg", 12_000_000, 3_000_000, 500_000)
        metrics.upload_tried(EndedTry("ready", 0.1, None, 1.0))
        metrics.messages_sent(["upload.ready"])

    assert (time.thread_time() - began) / 1000 < 100e-6
