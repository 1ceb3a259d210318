"""What happened, for whoever counts it: a Protocol for metrics, and one that counts nothing."""

from collections.abc import Mapping
from typing import Protocol


class Metrics(Protocol):
    """Counts what is worth a metric, as it happens; no method may fail, or wait."""

    def upload_finished(self, outcome: str, code: str | None, seconds: float) -> None:
        """A try of an upload has ended.

        `outcome` is the upload's state since then (`fenced` where another worker has it), `code` that of the
        error, if there was one, `seconds` how long the try took.
        """

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        """An upload's picture was made: milliseconds for each stage, `read` to `publish`."""

    def events_taken(self, accepted: int, refused: int) -> None:
        """So many entries of the stream became rows, and so many dead letters."""

    def messages_sent(self, count: int) -> None:
        """So many messages were appended to the stream of messages."""


class NoMetrics:
    """Counts nothing."""

    def upload_finished(self, outcome: str, code: str | None, seconds: float) -> None: ...

    def stages_finished(self, ms: Mapping[str, float]) -> None: ...

    def events_taken(self, accepted: int, refused: int) -> None: ...

    def messages_sent(self, count: int) -> None: ...


NO_METRICS = NoMetrics()
