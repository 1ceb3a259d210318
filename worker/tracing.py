"""Traces: what the log says of an upload names the trace of its app."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import structlog

from pipelines.traces import Traces, TryTrace
from storage.catalog.records import Claim
from worker.traceparent import trace_id_of


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
