"""The interface to a metrics system, which counts nothing by itself."""

from collections.abc import Mapping


class Metrics:
    """Events worth a metric, as they happen: a subclass counts them. No method may fail, or wait."""

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


NO_METRICS = Metrics()
