"""Watches that remember everything that they are told."""

from collections import Counter


class RecordedWatch:
    """What took how long, what failed, and what was slow."""

    def __init__(self, slow_s: float = 10.0) -> None:
        self.slow_s = slow_s
        self.operations: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.failures: Counter[str] = Counter()
        self.slow: list[tuple[str, float]] = []

    def took(self, operation: str, seconds: float) -> None:
        self.operations[operation] += 1
        self.seconds[operation] = seconds

    def failed(self, operation: str) -> None:
        self.failures[operation] += 1

    def was_slow(self, statement: str, seconds: float) -> None:
        self.slow.append((statement, seconds))
