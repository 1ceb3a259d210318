"""A worker that dies with a traced upload leaves its trace to the next one, wherever it dies."""

from collections.abc import Iterator

import pytest

from tests.chaos.place import Case, FaultPlace
from tests.support import pictures
from tests.support.otlp import Collector, collecting

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROCESS, SEND = "process media:uploads", "send media:events"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.mark.parametrize(
    "case",
    [
        ("take", "after", 1),  # rows, and no job
        ("acknowledge", "before", 1),  # a job, and the entry is still there
        ("commit", "before", 1),  # three files, and no row
        ("commit", "after", 1),  # rows, and no message
    ],
    ids=lambda case: f"{case[0]}-{case[1]}",
)
@pytest.mark.rotating(2)
def test_the_successor_of_a_worker_that_died_goes_on_in_the_trace_of_the_app(
    place: FaultPlace, collector: Collector, case: Case
) -> None:
    before = len(collector.spans)
    place.settings.update(collector.settings)
    source = place.put("uploads/cat.jpg", pictures.small())
    place.send({"source": source, "traceparent": f"00-{TRACE}-{PARENT}-01"})
    place.start_worker(fault={"crash": case, "armed": True}, ready=False).wait()
    successor = place.start_worker()
    answer = place.await_end_of(source)[source]
    assert successor.stop() == 0

    spans = {span.name: span for span in collector.spans[before:] if span.trace_id == TRACE}
    assert answer["traceparent"] == f"00-{TRACE}-{spans[SEND].span_id}-01"
    if case == ("commit", "after", 1):  # the message names the span of the dead
        assert PROCESS not in spans
        assert spans[SEND].parent_id not in ("", PARENT)
    else:
        assert (spans[PROCESS].parent_id, spans[SEND].parent_id) == (PARENT, spans[PROCESS].span_id)
