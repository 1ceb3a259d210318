"""The trace of an app, without any tracing system here: in the log, in every message, through commands."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import pictures
from tests.support.commands import document, media
from tests.support.workplace import Answer, Workplace, eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = f"00-{TRACE}-00f067aa0ba902b7-01"


def test_messages_and_lines_about_an_upload_belong_to_the_trace_of_its_event(live: Workplace) -> None:
    good = live.put("uploads/traced.jpg", pictures.small())
    bad = live.put("uploads/traced.pdf", b"%PDF-1.7")
    untraced = live.put("uploads/untraced.pdf", b"%PDF-1.7")
    live.send_all({"source": source, "traceparent": TRACED} for source in (good, bad))
    live.send({"source": untraced})
    entry = live.send({"source": "uploads/refused.jpg", "recipe": "none", "traceparent": TRACED})
    answers = live.await_end_of(good, bad, untraced, "uploads/refused.jpg")

    assert [answers[source].get("traceparent") for source in (good, bad, untraced)] == [TRACED, TRACED, None]
    assert answers["uploads/refused.jpg"]["traceparent"] == TRACED
    log = live.workers[0]
    eventually(lambda: len(log.logged("upload_not_ready")) == 2)  # after the message
    traces = {line["upload"]: line.get("trace_id") for line in log.logged("upload_not_ready")}
    assert traces == {answers[bad]["id"]: TRACE, answers[untraced]["id"]: None}
    [refused] = [line for line in log.logged("event_refused") if line["stream_id"] == entry]
    assert refused["trace_id"] == TRACE


def test_a_batch_of_one_upload_is_a_line_about_it(live: Workplace) -> None:
    source = live.put("uploads/alone.jpg", pictures.small())
    trace = "0af7651916cd43dd8448eb211c80319c"
    live.send({"source": source, "traceparent": f"00-{trace}-b7ad6b7169203331-00"})
    live.await_end_of(source)

    def lines() -> list[Answer]:
        return [line for line in live.workers[0].logged("batch") if line.get("trace_id") == trace]

    eventually(lambda: bool(lines()))
    assert [line["ready"] for line in lines()] == [1]


def test_a_wrong_traceparent_costs_a_warning_and_nothing_else(live: Workplace) -> None:
    source = live.put("uploads/wrong.jpg", pictures.small())
    entry = live.send({"source": source, "traceparent": "mary@example.com"})
    answer = live.await_end_of(source)[source]

    assert (answer["type"], "traceparent" in answer) == ("upload.ready", False)
    lines = [line for line in live.workers[0].log if line.get("stream_id") == entry]
    assert [line["event"] for line in lines] == ["traceparent_dropped"]
    assert "mary" not in live.workers[0].text


@pytest.mark.parametrize("given", ["option", "environment"])
def test_what_a_command_enqueues_belongs_to_the_trace_that_calls_it(
    live: Workplace, tmp_path: Path, given: str
) -> None:
    path = tmp_path / f"{given}.jpg"
    path.write_bytes(pictures.small(len(given)))
    environment = {"TRACEPARENT": TRACED} if given == "environment" else {}
    words: list[Any] = ["--traceparent", TRACED] if given == "option" else []

    ended = media({**live.env(), **environment}, "enqueue", path, "--wait", "--json", *words)

    assert (ended.returncode, ended.stderr) == (0, "")
    source = document(ended)["source"]
    assert live.await_end_of(source)[source]["traceparent"] == TRACED


def test_who_looks_at_an_upload_finds_its_trace(live: Workplace) -> None:
    source = live.put("uploads/shown.pdf", b"%PDF-1.7")
    live.send({"source": source, "traceparent": TRACED})
    live.await_end_of(source)

    assert document(media(live.env(), "show", source, "--json"))["traceparent"] == TRACED
    assert f"trace  {TRACE}" in media(live.env(), "show", source).stdout


def test_a_command_leaves_out_a_wrong_traceparent_and_says_so(live: Workplace, tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(pictures.small(3))

    ended = media(live.env(), "enqueue", path, "--wait", "--json", "--traceparent", "x")

    assert ended.returncode == 0
    assert ended.stderr == "The traceparent is none of the W3C's and is left out.\n"
