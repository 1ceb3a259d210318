"""The interface to a tracing system, which records nothing by itself."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from pipelines.metrics import EndedTry
from storage.catalog.records import Claim, DeadLetter, Original


class TryTrace:
    """The trace of one try of an upload, from its claim to what became of it. No method may fail, or wait."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        """What is claimed; where this try has a span, its message is to name that one."""

    @property
    def traceparent(self) -> str | None:
        """The trace that what is said of this try belongs to."""
        return self.claim.traceparent or self.claim.upload.traceparent

    def working(self) -> AbstractContextManager[None]:
        """What is logged meanwhile belongs to the trace."""
        return nullcontext()

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        """Milliseconds of each stage, one after the other, of which the last has just ended."""

    def picture_made(self, original: Original, written: int) -> None:
        """A picture was decoded, and so many bytes of variants were stored."""

    def reused(self, kind: str) -> None:
        """Work was saved, as `Metrics.reused` says."""

    def ended(self, ended: EndedTry, commit_s: float) -> None:
        """The try has ended, and writing its outcome has taken so many seconds."""


class Traces:
    """The traces of one process: a subclass records them. No method may fail, or wait."""

    @contextmanager
    def trying(self, claim: Claim, *, waited_s: float, claimed_s: float) -> Iterator[TryTrace]:
        """A try that begins: it has waited for its turn, and its claim has just taken `claimed_s` seconds."""
        yield TryTrace(claim)

    def events_taken(
        self, seconds: float, accepted: Sequence[str | None], refused: Sequence[DeadLetter]
    ) -> None:
        """Entries of the stream were recorded in that time; each accepted event by its `traceparent`."""

    @contextmanager
    def sending(self, payloads: Sequence[MutableMapping[str, Any]]) -> Iterator[None]:
        """Messages are sent meanwhile; each gets the `traceparent` of the span that sends it."""
        yield


NO_TRACES = Traces()
