"""Accounts: what the pictures of each owner cost, as far as this worker decoded them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from storage.totals import OwnerCost

HALF_LIFE_S = 60.0  # after which what was used counts half
_FORGOTTEN_S = 0.001  # less is as nothing


@dataclass
class Meter:
    """What one try of an upload costs its owner, read on while decoders work on it."""

    owner: str = ""
    cpu_s: float = 0.0
    bytes: int = 0

    @contextmanager
    def running(self, cpu_s: Callable[[], float]) -> Iterator[None]:
        """Count what a decoder, whose CPU seconds `cpu_s` tells, takes meanwhile."""
        before = cpu_s()
        try:
            yield
        finally:
            self.cpu_s += cpu_s() - before


class Accounts:
    """The costs of each owner: those that are not saved yet, and how much CPU time it has used lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unsaved: dict[str, OwnerCost] = {}
        self._used: dict[str, tuple[float, float]] = {}  # seconds, as of that moment

    def debit(self, meter: Meter, *, uploads: int) -> None:
        """A try has ended: its owner pays what the meter shows."""
        self._add(OwnerCost(meter.owner, round(meter.cpu_s * 1000), uploads, meter.bytes))

    def use(self, owner: str, seconds: float) -> None:
        """The owner's pictures took decoders for so long, or kept others from them: its turns come later."""
        if seconds:
            self._used[owner] = self.used_s(owner) + seconds, self._clock()

    def used_s(self, owner: str) -> float:
        """Seconds that the owner's pictures took lately: what is a minute old counts half."""
        used_s, at = self._used.get(owner, (0.0, 0.0))
        return used_s * 0.5 ** ((self._clock() - at) / HALF_LIFE_S) if used_s else 0.0

    def take_unsaved(self) -> Sequence[OwnerCost]:
        """What was debited since this was last asked; who has used nothing lately is forgotten."""
        for owner in [owner for owner in self._used if self.used_s(owner) < _FORGOTTEN_S]:
            del self._used[owner]
        unsaved, self._unsaved = self._unsaved, {}
        return list(unsaved.values())

    def return_unsaved(self, costs: Sequence[OwnerCost]) -> None:
        """They could not be saved: they are taken again with the next ones."""
        for cost in costs:
            self._add(cost)

    def _add(self, cost: OwnerCost) -> None:
        before = self._unsaved.get(cost.owner, OwnerCost(cost.owner, 0, 0, 0))
        self._unsaved[cost.owner] = replace(
            before,
            cpu_ms=before.cpu_ms + cost.cpu_ms,
            uploads=before.uploads + cost.uploads,
            bytes=before.bytes + cost.bytes,
        )
