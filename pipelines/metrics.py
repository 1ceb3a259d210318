"""The interface to a metrics system, which counts nothing by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.formats import Engine

Station = Literal["wait", "commit"]
"""Where an upload waits for others, before and after its own stages."""
Reuse = Literal["unchanged", "known_content", "verdict"]
"""Why a picture is not decoded: the file is as it was, its bytes are, or such bytes kill decoders."""
End = Literal[
    "crashed", "timeout", "bloated", "killed", "fat", "noisy", "restless", "renewed", "swapped", "other"
]
"""Why a decoder is ended: what it did, that the kernel did it, that the next picture is another owner's
(`renewed`), or that another kind of decoder needs its place.
"""
Recovery = Literal["requeued", "taken_over", "lease_lost", "adopted", "resent"]
"""What was put right: uploads whose job was gone, events and jobs of others, originals, messages."""


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
        """An upload's picture was made: milliseconds for each stage, `read` to `publish`.

        `wait` is one of them where it has waited for others that were stored with it.
        """

    def stage_finished(self, stage: Station, seconds: float) -> None:
        """An upload has waited for its turn (`wait`), or for its outcome to be written (`commit`)."""

    def picture_made(self, picture_format: str, pixels: int, read: int, written: int) -> None:
        """A picture was decoded: its pixels, the bytes of its original, and of variants that were stored."""

    def reused(self, kind: Reuse) -> None:
        """Work was saved."""

    def decoder_started(self, engine: Engine) -> None:
        """A decoder was started."""

    def decoder_ended(self, reason: End) -> None:
        """A decoder was ended before its time."""

    def events_taken(self, accepted: int, refused: Sequence[str]) -> None:
        """So many entries of the stream became rows; others dead letters, each for a reason with a code."""

    def messages_sent(self, types: Sequence[str]) -> None:
        """Messages of these types were appended to the stream of messages."""

    def webhook_tried(self, endpoint: str, outcome: str, seconds: float) -> None:
        """An attempt to deliver a webhook to that endpoint has ended after so many seconds, well or not."""

    def webhooks_given_up(self, endpoint: str, count: int) -> None:
        """So many messages were given up, which no endpoint has taken in time."""

    def recovered(self, kind: Recovery, count: int = 1) -> None:
        """What was lost has been found again."""


NO_METRICS = Metrics()
