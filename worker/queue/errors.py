"""The one tree of the queue's errors."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Something that a Redis refuses, and the remedy; `transient` where it may end by itself."""

    what: str
    remedy: str
    transient: bool = False
    by: str = "Redis says no"

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}"


class QueueUnavailable(Exception):
    """Redis did not do what was asked; the same call may work later."""

    refusal: Refusal | None = None

    def __init__(self, reason: str, by: str = "Redis does not answer") -> None:
        super().__init__(reason)
        self._by = by

    def explain(self) -> str:
        """The error for people: whose it is, and the reason with its remedy where there is one."""
        reason = str(self).rstrip(".")
        return reason if reason.startswith(self._by) else f"{self._by}: {reason}"


class QueueRefused(QueueUnavailable):
    """Redis answers, and says no: the refusal names the remedy."""

    refusal: Refusal

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal), refusal.by)
        self.refusal = refusal


class StreamMismatch(QueueRefused):
    """The stream is not the one that this catalog's events come from: another installation has it."""
