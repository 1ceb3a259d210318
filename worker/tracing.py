"""Traces: what the log says of an upload names its trace; spans are only where they are switched on."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Any

import structlog

from pipelines.traces import Traces, TryTrace
from storage.catalog.records import Claim
from storage.errors import lacking
from worker.findings import Finding
from worker.settings import Settings
from worker.traceparent import trace_id_of

log = structlog.get_logger(__name__)

FLUSH_S = 2.0  # for spans that wait when a worker ends; a collector that hangs keeps nobody from ending


def naming_trace(traceparent: str | None) -> AbstractContextManager[Any]:
    """What is logged meanwhile has the `trace_id`, where it is part of a trace."""
    if traceparent is None:
        return nullcontext()
    return structlog.contextvars.bound_contextvars(trace_id=trace_id_of(traceparent))


class LoggedTry(TryTrace):
    """A try whose log names its trace."""

    def working(self) -> AbstractContextManager[None]:
        return naming_trace(self.traceparent)


class LoggedTraces(Traces):
    """Traces of apps, in the log alone."""

    @contextmanager
    def trying(self, claim: Claim, *, waited_s: float, claimed_s: float) -> Iterator[TryTrace]:
        yield LoggedTry(claim)

    async def close(self, within_s: float) -> None:
        """Send what waits, for so long at most."""


class CannotTrace(Exception):
    """Spans were asked for and cannot be recorded; the message says why."""


def inspect_traces(settings: Settings) -> Sequence[Finding]:
    """Whether spans can be recorded and sent, where the settings switch them on."""
    try:
        open_traces(settings, "doctor")
    except CannotTrace as error:
        return [Finding("Traces", "error", f"MEDIA_TRACES: {error}")]
    return inspect_collector(settings)


def inspect_collector(settings: Settings) -> Sequence[Finding]:
    """Whether the collector takes spans, where they are switched on and this process could send any."""
    if settings.traces == "off":
        return []
    try:
        from worker.spans import why_not_taken
    except ImportError:
        return []
    problem = why_not_taken()
    if problem is None:
        return [Finding("Traces", "ok", "the collector takes spans")]
    advice = "Start it, or set OTEL_EXPORTER_OTLP_ENDPOINT to where it is. Workers go on without it."
    return [Finding("Traces", "warning", f"the collector takes no spans: {problem}", advice)]


@asynccontextmanager
async def tracing(settings: Settings, instance: str) -> AsyncIterator[LoggedTraces]:
    """The traces of a worker of that name; at the end what waits is sent, if that goes quickly.

    Exit with 1 where spans are switched on and cannot be recorded.
    """
    try:
        traces = open_traces(settings, instance)
    except CannotTrace as error:
        log.error("cannot_start", reason=f"MEDIA_TRACES: {error}")  # noqa: TRY400 (the reason says it all)
        raise SystemExit(1) from error
    try:
        yield traces
    finally:
        await traces.close(FLUSH_S)


def open_traces(settings: Settings, instance: str) -> LoggedTraces:
    """Spans where the settings switch them on, lines in the log everywhere. Raises: CannotTrace."""
    if settings.traces == "off":
        return LoggedTraces()
    try:
        from worker.spans import SpanTraces  # with an extra: 130 ms and 3 MiB
    except ImportError as error:
        raise CannotTrace(lacking("otel")) from error
    try:
        return SpanTraces(settings.stream, settings.events, instance)
    except Exception as error:  # whatever the SDK makes of its variables
        raise CannotTrace(f"one of the variables OTEL_* is wrong: {error}") from error
