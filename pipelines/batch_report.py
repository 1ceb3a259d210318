"""The report of a batch: the outcomes of its uploads, their times, and what is left over."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from storage.catalog.records import Committed, Failed, Outcome, Postponed, Removed, State


@dataclass
class BatchReport:
    """The outcomes of a batch, filled in while its uploads are processed."""

    outcomes: Counter[str] = field(default_factory=Counter)  # uploads by state, or `fenced`, `skipped`, …
    ms: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by stage, of all uploads
    failures: list[tuple[UUID, str, str]] = field(default_factory=list)  # id, code, and message for a person
    undecoded: list[tuple[UUID, str, str]] = field(
        default_factory=list
    )  # of ready ones: what they lack is no variant
    details: dict[UUID, str] = field(default_factory=dict)  # of failures, for the log alone
    kept: list[tuple[UUID, str]] = field(default_factory=list)  # originals that were to go, and why they stay
    left_over: list[UUID] = field(default_factory=list)  # uploads that the job has to take up again
    watched: set[UUID] = field(default_factory=set)  # of them those that may be due sooner
    traceparents: dict[UUID, str] = field(default_factory=dict)  # of the uploads that are part of a trace
    due_in_ms: int | None = None  # when the first of them is due; None: none is left over

    def add(self, ms: Mapping[str, float]) -> None:
        for stage, value in ms.items():
            self.ms[stage] += value

    def leave(self, upload_id: UUID, due_in_ms: int) -> None:
        """The upload is due again, `due_in_ms` from now."""
        self.left_over.append(upload_id)
        self.due_in_ms = due_in_ms if self.due_in_ms is None else min(self.due_in_ms, due_in_ms)

    def note_trace(self, upload_id: UUID, traceparent: str | None) -> None:
        """What the log says of the upload belongs to that trace."""
        if traceparent is not None:
            self.traceparents[upload_id] = traceparent

    def note(self, committed: Committed, outcome: Outcome) -> str:
        """Add what became of one upload; returns its state, or `fenced` where another worker has it."""
        state = str(committed.state or "fenced")
        self.outcomes[state] += 1
        if isinstance(outcome, Removed) and outcome.kept is not None:
            self.kept.append((committed.id, outcome.kept))
        if isinstance(outcome, Failed | Postponed):
            self.failures.append((committed.id, outcome.code, outcome.message))
        if committed.state in (State.QUEUED, State.DELETING):
            self.leave(committed.id, committed.due_in_ms)
        return state

    def note_undecoded(self, error: Exception, meaning: Failed | Postponed) -> None:
        """Add the error of an upload that is ready all the same: only its placeholder could not be made."""
        self.undecoded.append((meaning.claim.upload.id, meaning.code, meaning.message))
        self.note_details(error, meaning)

    def note_details(self, error: Exception, outcome: Outcome) -> None:
        """Add the notes of the `error` that an outcome comes from, unless its message has them."""
        notes = "\n".join(getattr(error, "__notes__", ()))
        if isinstance(outcome, Failed | Postponed) and notes not in outcome.message:
            self.details[outcome.claim.upload.id] = notes
