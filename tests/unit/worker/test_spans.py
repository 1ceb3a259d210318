"""Spans are recorded without waiting for anybody, and in bounded memory, whatever the collector does."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from structlog.testing import capture_logs

from pipelines.metrics import EndedTry
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim
from tests.support.catalogs import CAT, claim, take, upload_event
from tests.support.otlp import Collector, collecting
from worker.spans import SpanTraces

TRACED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MS = dict.fromkeys(("read", "hash", "probe", "decode", "resize", "encode", "publish", "upload"), 1.0)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as started:
        for name, value in started.settings.items():
            monkeypatch.setenv(name, value)
        yield started


@pytest.fixture
async def traces(collector: Collector) -> AsyncIterator[SpanTraces]:
    opened = SpanTraces("media:uploads", "media:events", "test")
    yield opened
    await opened.close(0.01 if collector.hangs.is_set() else 5)
    collector.answer = 503
    collector.hangs.clear()
    for thread in exporting():  # it draws random numbers, which Hypothesis takes for those of its test
        await asyncio.to_thread(thread.join, 10)


def exporting() -> list[threading.Thread]:
    """The threads that send spans, or wait until they may try it again."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("OtelBatch")]


@pytest.fixture
async def held(catalog: Catalog) -> Claim:
    """A claim on an upload that is part of no trace."""
    await take(catalog, upload_event(1))
    return await claim(catalog)


def try_once(traces: SpanTraces, held: Claim) -> None:
    with traces.trying(held, waited_s=0.001, claimed_s=0.001) as tried:
        tried.stages_finished(MS)
        tried.ended(EndedTry("ready", 0.01), 0.001)


async def test_a_collector_that_hangs_costs_neither_time_nor_memory_without_bound(
    collector: Collector, traces: SpanTraces, held: Claim
) -> None:
    collector.hangs.set()
    longest = 0.0
    for _ in range(500):  # eleven spans each
        began = time.process_time()
        try_once(traces, held)
        longest = max(longest, time.process_time() - began)

    assert longest < 1
    assert sum(isinstance(each, ReadableSpan) for each in gc.get_objects()) < 2048 + 512 + 100


async def test_the_end_waits_for_a_collector_that_hangs_only_so_long(
    collector: Collector, traces: SpanTraces, held: Claim
) -> None:
    collector.hangs.set()
    try_once(traces, held)
    began = time.monotonic()
    with capture_logs() as logged:
        await traces.close(0.2)

    assert 0.2 <= time.monotonic() - began < 5
    assert [line["event"] for line in logged] == ["traces_cut_off"]


async def test_after_its_end_nobody_tries_again_to_send_what_was_cut_off(
    collector: Collector, traces: SpanTraces, held: Claim
) -> None:
    collector.hangs.set()
    try_once(traces, held)
    await traces.close(0.05)
    collector.answer = 503  # as of a server that will be back
    collector.hangs.clear()
    for thread in exporting():
        await asyncio.to_thread(thread.join, 10)

    assert exporting() == []
    assert collector.requests == 1


async def test_a_try_that_is_cut_short_is_an_error(
    collector: Collector, traces: SpanTraces, held: Claim
) -> None:
    with pytest.raises(TimeoutError), traces.trying(held, waited_s=0, claimed_s=0):
        raise TimeoutError
    with traces.trying(held, waited_s=0, claimed_s=0):
        pass
    await traces.close(5)

    processed = [span for span in collector.spans if span.name == "process media:uploads"]
    assert [span.error for span in processed] == ["TimeoutError", "cancelled"]


async def test_a_wait_for_those_that_are_stored_with_an_upload_comes_before_they_are(
    collector: Collector, traces: SpanTraces, held: Claim
) -> None:
    with traces.trying(held, waited_s=0.001, claimed_s=0.001) as tried:
        tried.stages_finished(dict.fromkeys([*MS, "wait"], 0.001))  # shorter than since the claim
        tried.ended(EndedTry("ready", 0.01), 0)
    await traces.close(5)

    order = [span.name for span in sorted(collector.spans, key=lambda span: (span.start, span.end))]
    assert order[-4:] == ["encode", "wait", "publish", "commit"]


async def test_a_message_that_cannot_be_sent_is_an_error(collector: Collector, traces: SpanTraces) -> None:
    sent = {"type": "upload.ready", "id": str(CAT), "traceparent": TRACED}
    with pytest.raises(ConnectionError), traces.sending([sent, {"type": "upload.ready", "id": None}]):
        raise ConnectionError
    await traces.close(5)

    [span] = collector.spans
    assert (span.name, span.error, span.parent_id) == ("send media:events", "ConnectionError", TRACED[36:52])


async def test_events_of_traces_that_nobody_samples_are_no_span(
    collector: Collector, traces: SpanTraces
) -> None:
    unsampled = TRACED[:-2] + "00"
    traces.events_taken(0.01, [unsampled, unsampled], [])
    traces.events_taken(0.01, [unsampled, TRACED], [])
    await traces.close(5)

    [span] = collector.spans
    assert span.links == [TRACED[3:35]]


async def test_the_name_that_the_environment_gives_the_service_counts(
    collector: Collector, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
    traces = SpanTraces("media:uploads", "media:events", "worker-7")
    try_once(traces, held)
    await traces.close(5)

    resource = collector.spans[0].resource
    assert (resource["service.name"], resource["service.instance.id"]) == ("pictures", "worker-7")


@pytest.mark.parametrize("mended", ["", "00", "00-x-y-z", "ä" * 55])
async def test_a_row_whose_traceparent_is_none_is_worked_on_in_a_trace_of_its_own(
    collector: Collector, traces: SpanTraces, held: Claim, mended: str
) -> None:
    try_once(traces, replace(held, upload=replace(held.upload, traceparent=mended)))
    traces.events_taken(0.01, [mended], [])
    await traces.close(5)

    [process] = [span for span in collector.spans if span.name == "process media:uploads"]
    assert (process.parent_id, process.error) == ("", None)


async def test_where_the_sdk_is_disabled_the_trace_of_the_app_is_carried_on(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, held: Claim
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traces = SpanTraces("media:uploads", "media:events", "test")
    try_once(traces, held)
    sent = {"type": "upload.ready", "id": str(CAT), "traceparent": TRACED}
    with traces.sending([sent]):
        pass
    await traces.close(5)

    assert sent["traceparent"] == TRACED
    assert collector.requests == 0
