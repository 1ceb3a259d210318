"""Metrics that record everything that happens."""

from collections import Counter
from collections.abc import Mapping

from pipelines.metrics import Metrics


class RecordedMetrics(Metrics):
    """What happened, in lists and counts."""

    def __init__(self) -> None:
        self.uploads: list[tuple[str, str | None]] = []
        self.seconds: list[float] = []
        self.stages: list[Mapping[str, float]] = []
        self.events: Counter[str] = Counter()
        self.messages = 0

    def upload_finished(self, outcome: str, code: str | None, seconds: float) -> None:
        self.uploads.append((outcome, code))
        self.seconds.append(seconds)

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        self.stages.append(ms)

    def events_taken(self, accepted: int, refused: int) -> None:
        self.events += Counter(accepted=accepted, refused=refused)

    def messages_sent(self, count: int) -> None:
        self.messages += count
