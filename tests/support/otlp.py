"""A collector of traces: it speaks OTLP over HTTP, and keeps the spans that it is sent."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

KINDS = {name.removeprefix("SPAN_KIND_"): number for name, number in trace_pb2.Span.SpanKind.items()}
_KIND_OF = {number: name for name, number in KINDS.items()}


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, as whoever looks at a trace sees it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start: int
    end: int
    attributes: Mapping[str, Any]
    error: str | None  # what its status says; None: no error
    links: Sequence[str]  # the traces
    resource: Mapping[str, Any]
    raw: bytes = field(repr=False, default=b"")


class Collector:
    """What came so far, and how it is answered."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer = 200
        self.hangs = threading.Event()  # while it is set, nobody is answered
        self.requests = 0
        self._spans: list[ReceivedSpan] = []
        self._changed = threading.Condition()

    @property
    def settings(self) -> dict[str, str]:
        """Variables of a worker that sends its spans here, soon."""
        return {
            "MEDIA_TRACES": "on",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All that came."""
        with self._changed:
            return list(self._spans)

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Those of one trace, by their beginning."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start)

    def await_that(self, holds: Callable[[], object], within: float = 20.0) -> None:
        """Wait for spans until that holds."""
        with self._changed:
            assert self._changed.wait_for(holds, within), [span.name for span in self._spans]

    def take(self, body: bytes) -> int:
        """Keep what is sent; returns the answer's status."""
        with self._changed:
            self.requests += 1
            if self.answer == 200:
                self._spans += _spans_in(body)
            self._changed.notify_all()
            return self.answer


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            until = time.monotonic() + 30
            while collector.hangs.is_set() and time.monotonic() < until:
                released.wait(0.05)
                if released.is_set():
                    break
            self.send_response(collector.take(body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asked has not waited for the answer."""

    released = threading.Event()
    with Server(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield collector
        finally:
            released.set()
            server.shutdown()
            thread.join()


def _spans_in(body: bytes) -> Iterator[ReceivedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope in resource_spans.scope_spans:
            for span in scope.spans:
                is_error = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
                yield ReceivedSpan(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=_KIND_OF[span.kind],
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    error=span.status.message if is_error else None,
                    links=[link.trace_id.hex() for link in span.links],
                    resource=resource,
                    raw=body,
                )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
