"""Spans of OpenTelemetry: what a worker does for uploads, as parts of the traces of apps.

It alone knows OpenTelemetry, and is imported only where `MEDIA_TRACES` is on.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from pipelines.metrics import EndedTry
from pipelines.traces import TryTrace
from storage.catalog.records import Claim, DeadLetter, Original
from worker.queue.stream import GROUP
from worker.traceparent import parse_traceparent
from worker.tracing import LoggedTraces, LoggedTry

log = structlog.get_logger(__name__)

SERVICE = "media-worker"
# One after the other; the second `wait` of an upload is for those that are stored with it.
STAGES = ("read", "hash", "probe", "decode", "resize", "encode", "wait", "publish")
_UNNAMED = "unknown_service"  # what the SDK calls a service that nobody has named
_SAYING = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")  # where exporting is logged
_SHOWN = 300  # characters of a reason
_TRY_S = 3.0

Attributes = Mapping[str, str | int | bool]


class SpanTraces(LoggedTraces):
    """Spans, sent in the background to where the variables `OTEL_*` say."""

    def __init__(self, stream: str, events: str, instance: str) -> None:
        self._export = ReportedExport(OTLPSpanExporter())
        # One of our own, not that of the process: what else runs in it records nothing by our settings.
        self._provider = TracerProvider(resource=_resource(instance), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._export))
        self._tracer = self._provider.get_tracer(SERVICE, version(SERVICE))
        self._stream = stream
        self._events = events

    async def close(self, within_s: float) -> None:
        """Send what waits, for so long at most; a collector that does not take it by then misses it."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            with suppress(Exception):  # nobody waits for it any more, or nobody can do anything about it
                self._provider.shutdown()
                loop.call_soon_threadsafe(closed.set)

        # No thread of a pool, for whose end the process would wait.
        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(within_s):
                await closed.wait()
        except TimeoutError:
            self._export.shutdown()  # it would try again for a minute
            log.warning("traces_cut_off", reason=f"the collector has not taken the rest in {within_s:g} s")

    @contextmanager
    def trying(self, claim: Claim, *, waited_s: float, claimed_s: float) -> Iterator[TryTrace]:
        attributes = self._consuming("process")
        tried = SpannedTry(claim, self._tracer, f"process {self._stream}", attributes, waited_s, claimed_s)
        try:
            yield tried
        except BaseException as error:
            tried.cut_short(error)
            raise
        tried.cut_short(None)

    def events_taken(
        self, seconds: float, accepted: Sequence[str | None], refused: Sequence[DeadLetter]
    ) -> None:
        until = time.time_ns()
        since = until - _ns(seconds)
        named = [*accepted, *(letter.about.traceparent if letter.about else None for letter in refused)]
        contexts = [context for context in map(_span_context, named) if context is not None]
        sampled = [context for context in contexts if context.trace_flags.sampled]
        if sampled or len(contexts) < len(named):  # otherwise nobody wants to see it
            attributes = self._consuming("receive") | {"messaging.batch.message_count": len(named)}
            alone = contexts[0] if len(contexts) == len(named) == 1 else None
            self._tracer.start_span(
                f"receive {self._stream}",
                context=_context(alone),
                kind=SpanKind.CLIENT,
                attributes=attributes,
                links=[Link(each) for each in sampled] if alone is None else None,
                start_time=since,
            ).end(until)
        for letter in refused:
            if letter.about and letter.about.traceparent:
                self._refuse(letter, letter.about.traceparent, since, until)

    def _refuse(self, letter: DeadLetter, traceparent: str, since: int, until: int) -> None:
        span = self._tracer.start_span(
            f"process {self._stream}",
            context=_context(_span_context(traceparent)),
            kind=SpanKind.CONSUMER,
            attributes=self._consuming("process") | {"messaging.message.id": letter.stream_id},
            start_time=since,
        )
        _fail(span, letter.code)
        span.end(until)

    @contextmanager
    def sending(self, payloads: Sequence[MutableMapping[str, Any]]) -> Iterator[None]:
        spans = [self._send(payload) for payload in payloads if payload.get("traceparent")]
        try:
            yield
        except BaseException as error:
            for span in spans:
                _fail(span, type(error).__name__)
            raise
        finally:
            for span in spans:
                span.end()

    def _send(self, payload: MutableMapping[str, Any]) -> Span:
        attributes: dict[str, str] = {
            "messaging.system": "redis",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": self._events,
            "media.message.type": payload["type"],
        }
        if payload["id"]:
            attributes["media.upload.id"] = payload["id"]
        span = self._tracer.start_span(
            f"send {self._events}",
            context=_context(_span_context(payload["traceparent"])),
            kind=SpanKind.PRODUCER,
            attributes=attributes,
        )
        payload["traceparent"] = _traceparent(span)
        return span

    def _consuming(self, operation: str) -> dict[str, str | int]:
        return {
            "messaging.system": "redis",
            "messaging.operation.type": operation,
            "messaging.operation.name": operation,
            "messaging.destination.name": self._stream,
            "messaging.consumer.group.name": GROUP,
        }


class SpannedTry(LoggedTry):
    """A try with a span, and one inside it for each stage. Nothing in them is the user's or the app's."""

    def __init__(
        self,
        claim: Claim,
        tracer: Tracer,
        name: str,
        attributes: Attributes,
        waited_s: float,
        claimed_s: float,
    ) -> None:
        self._tracer = tracer
        # A clock that is put back meanwhile must make no stage last for hours.
        self._clock_ns = time.time_ns() - time.perf_counter_ns()
        self._claimed_ns = self._now_ns()
        claiming_ns = self._claimed_ns - _ns(claimed_s)
        began_ns = claiming_ns - _ns(waited_s)
        self._span = tracer.start_span(
            name,
            context=_context(_span_context(claim.upload.traceparent)),
            kind=SpanKind.CONSUMER,
            attributes={
                **attributes,
                "media.upload.id": str(claim.upload.id),
                "media.recipe": claim.upload.recipe,
                "media.upload.attempt": claim.upload.attempts + 1,
                "media.upload.crash_count": claim.crash_count,
            },
            start_time=began_ns,
        )
        super().__init__(replace(claim, traceparent=_traceparent(self._span)))
        self._inside = set_span_in_context(self._span, Context())
        self._is_over = False
        self._stage("wait", began_ns, claiming_ns)
        self._stage("claim", claiming_ns, self._claimed_ns)

    def _now_ns(self) -> int:
        return self._clock_ns + time.perf_counter_ns()

    def _stage(self, name: str, since: int, until: int) -> None:
        if self._span.is_recording():
            self._tracer.start_span(name, context=self._inside, start_time=since).end(until)

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        until = self._now_ns()
        for stage in reversed(STAGES):
            if stage in ms:
                since = max(self._claimed_ns, until - _ns(ms[stage] / 1000))
                self._stage(stage, since, until)
                until = since

    def picture_made(self, original: Original, written: int) -> None:
        self._span.set_attributes(
            {
                "media.original.format": original.format,
                "media.original.pixels": original.width * original.height,
                "media.original.bytes": original.bytes,
                "media.variants.bytes": written,
            }
        )

    def reused(self, kind: str) -> None:
        self._span.set_attribute("media.reused", kind)

    def ended(self, ended: EndedTry, commit_s: float) -> None:
        until = self._now_ns()
        self._stage("commit", until - _ns(commit_s), until)
        self._span.set_attribute("media.outcome", ended.outcome)
        if ended.code is not None:
            _fail(self._span, ended.code)
        self._end(until)

    def cut_short(self, error: BaseException | None) -> None:
        """End the span of a try that has not ended."""
        if not self._is_over:
            _fail(self._span, "cancelled" if error is None else type(error).__name__)
            self._end(self._now_ns())

    def _end(self, until: int) -> None:
        self._is_over = True
        self._span.end(until)


class ReportedExport(SpanExporter):
    """An exporter whose outage is a line in the log at its beginning, and one at its end."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._said = _listen()
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._said.text = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # whatever it is: the thread that exports goes on
            self._said.text, result = str(error)[:_SHOWN], SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("traces_exported_again", lost=self._lost)
            self._lost = 0
        else:
            if not self._lost:
                log.warning("traces_not_exported", reason=self._said.text)
            self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def why_not_taken() -> str | None:
    """Why the collector takes no spans, tried with none for some seconds; None: it takes them."""
    said = _listen()
    if OTLPSpanExporter(timeout=_TRY_S).export([]) is SpanExportResult.SUCCESS:
        return None
    return said.text


class _Said(logging.Handler):
    """Keeps what was logged first: what follows only says that it was tried in vain."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()[:_SHOWN]


def _listen() -> _Said:
    """Have what exporting says of itself kept, and not logged: it would be said again with each batch."""
    said = _Said()
    for name in _SAYING:
        saying = logging.getLogger(name)
        saying.handlers, saying.propagate = [said], False
    return said


def _resource(instance: str) -> Resource:
    """What sends the spans; its name, and what else there is, as `OTEL_*` say."""
    given = Resource.create({"service.version": version(SERVICE), "service.instance.id": instance})
    if str(given.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
        return given.merge(Resource({SERVICE_NAME: SERVICE}))
    return given


def _span_context(traceparent: str | None) -> SpanContext | None:
    """The span that is named there; None for what names none, as a row that somebody has mended by hand."""
    known = parse_traceparent(traceparent)
    if known is None:
        return None
    _, trace_id, span_id, flags = known.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


def _context(parent: SpanContext | None) -> Context:
    return Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())


def _traceparent(span: Span) -> str | None:
    context = span.get_span_context()
    if not context.is_valid:  # as where OTEL_SDK_DISABLED is set
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _fail(span: Span, code: str) -> None:
    """Mark a span as failed. The message that people get may name files, and stays here."""
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR, code))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
