"""The interface to a metrics system, which counts nothing by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EndedTry:
    """A try of an upload that has ended.

    `outcome` is the upload's state since then; or `fenced` where another worker has it, `skipped` where there
    was nothing to do, `unrecorded` where its rows are damaged.
    """

    outcome: str
    seconds: float = 0.0  # from the claim to the commit
    code: str | None = None  # of the error, unless the try only waits for its original to settle
    age_s: float = 0.0  # since the event that asked for the upload


class Metrics:
    """Events worth a metric, as they happen: a subclass counts them. No method may fail, or wait."""

    def upload_tried(self, ended: EndedTry) -> None:
        """A try of an upload has ended."""

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        """An upload's picture was made: milliseconds for each stage, `read` to `publish`."""

    def stage_finished(self, stage: str, seconds: float) -> None:
        """An upload has waited for its turn (`wait`), or for its outcome to be written (`commit`)."""

    def picture_made(self, picture_format: str, pixels: int, read: int, written: int) -> None:
        """A picture was decoded: its pixels, the bytes of its original, and of variants that were stored."""

    def reused(self, kind: str) -> None:
        """Work was saved: the file is `unchanged`, its bytes are `known_content`, or there is a `verdict`."""

    def decoder_started(self, engine: str) -> None:
        """A decoder was started."""

    def decoder_ended(self, reason: str) -> None:
        """A decoder was ended before its time."""

    def events_taken(self, accepted: int, refused: Sequence[str]) -> None:
        """So many entries of the stream became rows; others dead letters, each for a reason with a code."""

    def messages_sent(self, types: Sequence[str]) -> None:
        """Messages of these types were appended to the stream of messages."""

    def recovered(self, kind: str, count: int = 1) -> None:
        """What was lost has been found again: by the reconciler, by whoever took it over, by adoption."""


NO_METRICS = Metrics()
