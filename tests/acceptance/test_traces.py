"""An upload in a trace: spans of a real worker, as a collector receives them by OTLP over HTTP."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.otlp import Collector, ReceivedSpan, collecting
from tests.support.workplace import Workplace, database_on, eventually

pytestmark = [WITH_SERVICES, pytest.mark.rotating(6, of="module")]

PARENT = "00f067aa0ba902b7"
STAGES = {"wait", "claim", "read", "hash", "probe", "decode", "resize", "encode", "publish", "commit"}
PROCESS, RECEIVE, SEND = "process media:uploads", "receive media:uploads", "send media:events"


def trace(number: int) -> str:
    """The ID of a trace that an app began."""
    return f"4bf92f3577b34da6a3ce929d0e0e{number:04x}"


def traced(number: int, flags: str = "01") -> str:
    return f"00-{trace(number)}-{PARENT}-{flags}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.fixture(scope="module")
def place(
    collector: Collector, redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace with one worker whose spans the collector gets."""
    home = tmp_path_factory.mktemp("traced")
    settings = {**collector.settings, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    made = Workplace(home, database_on(redis_server.url), migrated, **settings)
    made.start("media")
    yield made
    made.close()


def spans_of(collector: Collector, number: int) -> dict[str, ReceivedSpan]:
    """The spans of a trace that has come to its message, by name."""
    collector.await_that(lambda: {SEND, PROCESS} <= {span.name for span in collector.of_trace(trace(number))})
    return {span.name: span for span in collector.of_trace(trace(number))}


@pytest.mark.rotating(1)
def test_an_upload_is_one_trace_from_the_span_of_its_app_to_its_message(
    place: Workplace, collector: Collector
) -> None:
    source = place.put("uploads/cat.jpg", pictures.medium())
    place.send({"source": source, "traceparent": traced(1)})
    answer = place.await_end_of(source)[source]

    spans = spans_of(collector, 1)
    process, send = spans[PROCESS], spans[SEND]
    assert spans.keys() == {RECEIVE, PROCESS, SEND, *STAGES}
    assert (spans[RECEIVE].parent_id, process.parent_id, send.parent_id) == (PARENT, PARENT, process.span_id)
    assert {spans[stage].parent_id for stage in STAGES} == {process.span_id}
    assert answer["traceparent"] == f"00-{trace(1)}-{send.span_id}-01"
    kinds = (spans[RECEIVE].kind, process.kind, spans["decode"].kind, send.kind)
    assert kinds == ("CLIENT", "CONSUMER", "INTERNAL", "PRODUCER")


def test_the_stages_follow_each_other_inside_their_upload(place: Workplace, collector: Collector) -> None:
    source = place.put("uploads/stages.jpg", pictures.medium(2))
    place.send({"source": source, "traceparent": traced(2)})
    place.await_end_of(source)

    spans = spans_of(collector, 2)
    order = sorted((spans[stage] for stage in STAGES), key=lambda span: (span.start, span.end))
    assert [span.name for span in order][:2] == ["wait", "claim"]
    assert [span.name for span in order][-2:] == ["publish", "commit"]
    assert all(one.end <= next_one.start for one, next_one in pairwise(order))
    assert spans[PROCESS].start <= order[0].start <= order[-1].end <= spans[PROCESS].end
    assert 0 < spans["decode"].end - spans["decode"].start < 20e9


def test_spans_say_what_was_done_in_the_words_of_the_field(place: Workplace, collector: Collector) -> None:
    content = pictures.medium(3)
    source = place.put("uploads/words.jpg", content)
    place.send({"source": source, "traceparent": traced(3)})
    answer = place.await_end_of(source)[source]

    spans = spans_of(collector, 3)
    assert spans[PROCESS].attributes == {
        "messaging.system": "redis",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "media:uploads",
        "messaging.consumer.group.name": "workers",
        "media.upload.id": answer["id"],
        "media.recipe": "default",
        "media.upload.attempt": 1,
        "media.upload.crash_count": 0,
        "media.original.format": "jpeg",
        "media.original.pixels": 1200 * 900,
        "media.original.bytes": len(content),
        "media.variants.bytes": sum(variant["bytes"] for variant in answer["variants"]),
        "media.outcome": "ready",
    }
    assert spans[SEND].attributes["messaging.destination.name"] == "media:events"
    resource = spans[PROCESS].resource
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("media-worker", "test")


def test_a_failed_upload_is_an_error_with_its_code_and_nothing_of_its_user(
    place: Workplace, collector: Collector
) -> None:
    source = place.put("uploads/mary-example/passport.pdf", b"%PDF-1.7")
    place.send({"source": source, "metadata": {"mail": "mary@example.com"}, "traceparent": traced(4)})
    refused = {"source": "uploads/mary-example/x", "recipe": "none", "traceparent": traced(5)}
    place.send(refused)
    place.await_end_of(source, refused["source"])

    failed, unknown = spans_of(collector, 4), spans_of(collector, 5)
    assert (failed[PROCESS].error, failed[PROCESS].attributes["error.type"]) == ("unsupported_format",) * 2
    assert failed[PROCESS].attributes["media.outcome"] == "failed"
    assert (unknown[PROCESS].error, unknown[PROCESS].parent_id) == ("unknown_recipe", PARENT)
    assert [span.name for span in collector.of_trace(trace(4)) if span.error] == [PROCESS]
    for word in (b"mary", b"passport", b"example.com"):
        assert not [span for span in collector.spans if word in span.raw]


def test_a_trace_that_its_app_does_not_sample_is_carried_on_and_not_recorded(
    place: Workplace, collector: Collector
) -> None:
    source = place.put("uploads/unsampled.jpg", pictures.small(4))
    place.send({"source": source, "traceparent": traced(6, flags="00")})
    answer = place.await_end_of(source)[source]
    other = place.put("uploads/sampled.jpg", pictures.small(5))
    place.send({"source": other, "traceparent": traced(7)})

    spans_of(collector, 7)  # which comes later
    assert answer["traceparent"].startswith(f"00-{trace(6)}-")
    assert answer["traceparent"].endswith("-00")
    assert [span for span in collector.spans if trace(6) in (span.trace_id, *span.links)] == []


def test_an_upload_that_no_app_traces_begins_a_trace_of_its_own(
    place: Workplace, collector: Collector
) -> None:
    source = place.put("uploads/own.jpg", pictures.small(6))
    place.send({"source": source})
    answer = place.await_end_of(source)[source]

    own = answer["traceparent"].split("-")[1]
    collector.await_that(lambda: {PROCESS, SEND} <= {span.name for span in collector.of_trace(own)})
    [process] = [span for span in collector.of_trace(own) if span.name == PROCESS]
    assert (process.parent_id, process.attributes["media.upload.id"]) == ("", answer["id"])


def test_the_example_of_the_docs_is_one_trace_from_app_to_app(
    workplace: Workplace, collector: Collector
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    example = page.partition("<!-- traces: app -->\n```python\n")[2].partition("```")[0]
    workplace.settings.update(collector.settings)
    workplace.start("media")
    workplace.put("uploads/2026/11/cat.jpg", pictures.small())
    env = {**workplace.env(), "REDIS_URL": workplace.redis_url, "OTEL_SERVICE_NAME": "shop"}

    code = f"{_SDK_OF_AN_APP}\n{example}\nprovider.shutdown()"
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == ("upload.ready\n", "")
    [asked] = [span for span in collector.spans if span.name == "send media:uploads"]
    collector.await_that(lambda: SEND in {span.name for span in collector.of_trace(asked.trace_id)})
    spans = {span.name: span for span in collector.of_trace(asked.trace_id)}
    chain = ["process media:events", SEND, PROCESS, "send media:uploads"]
    assert [spans[name].parent_id for name in chain] == [*(spans[name].span_id for name in chain[1:]), ""]


_SDK_OF_AN_APP = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""


def test_many_events_that_are_taken_at_once_are_one_span_with_a_link_to_each_trace(
    workplace: Workplace, collector: Collector
) -> None:
    for number in (8, 9, 10):
        source = workplace.put(f"uploads/{number}.jpg", pictures.small(number))
        workplace.send({"source": source, "traceparent": traced(number)})
    workplace.settings.update(collector.settings)
    assert workplace.run("media", "--burst").returncode == 0

    # Whatever waits when a worker ends is sent before.
    [taken] = [span for span in collector.spans if trace(8) in span.links]
    assert (taken.name, taken.parent_id, taken.attributes["messaging.batch.message_count"]) == (
        RECEIVE,
        "",
        3,
    )
    assert sorted(taken.links) == [trace(8), trace(9), trace(10)]
    for number in (8, 9, 10):
        names = {span.name for span in collector.of_trace(trace(number))}
        assert names == {PROCESS, SEND, *STAGES}


def test_a_trace_goes_on_in_the_worker_that_takes_over_from_one_that_was_killed(
    workplace: Workplace, collector: Collector
) -> None:
    workplace.settings.update(collector.settings)
    victim = workplace.start("media")
    for decoder in victim.decoders():
        os.kill(decoder, signal.SIGSTOP)
    source = workplace.put("uploads/taken-over.jpg", pictures.small(11))
    workplace.send({"source": source, "traceparent": traced(11)})
    eventually(lambda: workplace.database.rows("SELECT state FROM uploads") == [{"state": "processing"}])
    victim.kill()
    successor = workplace.start("arq")
    answer = workplace.await_end_of(source)[source]
    assert successor.stop() == 0

    spans = spans_of(collector, 11)
    process = spans[PROCESS]
    assert (process.parent_id, process.attributes["media.upload.crash_count"]) == (PARENT, 1)
    assert answer["traceparent"] == f"00-{trace(11)}-{spans[SEND].span_id}-01"
    assert spans.keys() > STAGES


# -- a collector that is not well


@pytest.mark.parametrize("kind", ["away", "refusing", "hanging"])
@pytest.mark.rotating(1)
def test_a_collector_that_takes_nothing_delays_neither_uploads_nor_the_end(
    workplace: Workplace, kind: str
) -> None:
    with collecting() as sick:
        sick.url = "http://127.0.0.1:1" if kind == "away" else sick.url
        sick.answer = 400
        if kind == "hanging":
            sick.hangs.set()
        workplace.settings.update(sick.settings)
        worker = workplace.start("media")
        sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(5)]
        workplace.send_all({"source": source, "traceparent": traced(99)} for source in sources)
        answers = workplace.await_end_of(*sources)
        if kind == "refusing":
            worker.await_log("traces_not_exported")
        began = time.monotonic()

        assert worker.stop() == 0
        assert time.monotonic() - began < 20  # the collector hangs for 30 s
    assert {answer["type"] for answer in answers.values()} == {"upload.ready"}
    assert len(worker.logged("traces_not_exported")) <= 1
    assert len(worker.logged("traces_cut_off")) == 1 or kind != "hanging"
    assert "Traceback" not in worker.text


def test_an_outage_of_the_collector_is_one_line_at_its_beginning_and_one_at_its_end(
    workplace: Workplace,
) -> None:
    with collecting() as sick:
        sick.answer = 400
        workplace.settings.update(sick.settings)
        worker = workplace.start("media")
        for number in range(3):
            requests = sick.requests
            source = workplace.put(f"uploads/{number}.jpg", pictures.small(number))
            workplace.send({"source": source, "traceparent": traced(20)})
            workplace.await_end_of(source)
            sick.await_that(partial(_has_more, sick, requests))
        sick.answer = 200
        workplace.send({"source": workplace.put("uploads/last.jpg", pictures.small(7))})
        again = worker.await_log("traces_exported_again")
        worker.stop()

    [line] = worker.logged("traces_not_exported")
    assert line["reason"]
    assert again["lost"] > 0


def _has_more(collector: Collector, requests: int) -> bool:
    return collector.requests > requests


# -- without it


def test_where_no_spans_are_asked_for_nothing_of_opentelemetry_is_imported(workplace: Workplace) -> None:
    source = workplace.put("uploads/cat.jpg", pictures.small())
    workplace.send({"source": source, "traceparent": traced(30)})
    code = (
        "import asyncio, sys\n"
        "from worker import main, supervise\n"
        "from worker.settings import Settings\n"
        "asyncio.run(supervise.run(Settings.load(), burst=True))\n"
        "print([name for name in sys.modules if name.partition('.')[0] in "
        "('opentelemetry', 'requests', 'google')])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=workplace.env(), capture_output=True, text=True, check=True
    )

    assert ended.stdout == "[]\n"
    assert workplace.await_end_of(source)[source]["type"] == "upload.ready"


@pytest.mark.parametrize("words", [["worker", "--burst"], ["doctor"]])
@pytest.mark.rotating(1)
def test_spans_without_the_extra_are_refused_in_a_sentence(workplace: Workplace, words: list[str]) -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['opentelemetry', 'opentelemetry.trace'])\n"
        "from scripts.media import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=workplace.env(MEDIA_TRACES="on"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    said = " ".join((ended.stdout + ended.stderr).split())
    assert "needs the extra otel, which is not installed" in said
    assert "Traceback" not in said


def test_the_doctor_says_whether_the_collector_takes_spans(
    workplace: Workplace, collector: Collector
) -> None:
    def found(**settings: str) -> list[dict[str, str]]:
        asked = {**collector.settings, **settings}
        return [
            one
            for one in document(media(workplace.env(**asked), "doctor", "--json"))
            if one["what"] == "Traces"
        ]

    assert [one["level"] for one in found()] == ["ok"]
    [away] = found(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert (away["level"], "127.0.0.1" in away["detail"]) == ("warning", True)
    assert found(MEDIA_TRACES="off") == []


def test_a_wrong_variable_of_opentelemetry_is_named_at_the_start(workplace: Workplace) -> None:
    ended = workplace.run("media", MEDIA_TRACES="on", OTEL_BSP_MAX_QUEUE_SIZE="1")

    assert ended.returncode == 1
    assert "MEDIA_TRACES: one of the variables OTEL_* is wrong" in ended.stderr
    assert "Traceback" not in ended.stderr
