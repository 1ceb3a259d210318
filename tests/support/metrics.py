"""Metrics that record everything that happens."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pipelines.formats import Engine
from pipelines.metrics import End, EndedTry, Metrics, Recovery, Reuse, Station


class RecordedMetrics(Metrics):
    """What happened, in lists and counts."""

    def __init__(self) -> None:
        self.uploads: list[tuple[str, str | None]] = []
        self.seconds: list[float] = []
        self.stages: list[Mapping[str, float]] = []
        self.waits: list[str] = []
        self.pictures: list[tuple[str, int, int, int]] = []
        self.reuses: list[str] = []
        self.starts: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.messages: list[str] = []
        self.recoveries: Counter[str] = Counter()

    def upload_tried(self, ended: EndedTry) -> None:
        self.uploads.append((ended.outcome, ended.code))
        self.seconds.append(ended.seconds)

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        self.stages.append(ms)

    def stage_finished(self, stage: Station, seconds: float) -> None:
        self.waits.append(stage)

    def picture_made(self, picture_format: str, pixels: int, read: int, written: int) -> None:
        self.pictures.append((picture_format, pixels, read, written))

    def reused(self, kind: Reuse) -> None:
        self.reuses.append(kind)

    def decoder_started(self, engine: Engine) -> None:
        self.starts[engine] += 1

    def decoder_ended(self, reason: End) -> None:
        self.kills[reason] += 1

    def events_taken(self, accepted: int, refused: Sequence[str]) -> None:
        self.events += Counter({"accepted": accepted, **Counter(refused)})

    def messages_sent(self, types: Sequence[str]) -> None:
        self.messages += types

    def recovered(self, kind: Recovery, count: int = 1) -> None:
        self.recoveries[kind] += count
