"""Accounts: what the pictures of each owner cost, and how much of the workers' time it has used lately."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from storage.totals import OwnerCost

HALF_LIFE_S = 60.0  # after which what was used counts half
TRY_S = 0.01  # that a try takes beside its decoder: a deletion counts, too, and a file that is not there
LATER_S = 20.0  # by which an owner's turn is later for each second that it has used
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
    """The costs of each owner: those that are not saved yet, and how much it has used lately.

    `clock` gives the times of all that is said here, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._unsaved: dict[str, OwnerCost] = {}
        self._unsaved_s: defaultdict[str, float] = defaultdict(float)  # that were used
        self._used: dict[str, tuple[float, float]] = {}  # seconds, as of that moment

    def debit(self, meter: Meter, *, uploads: int) -> None:
        """A try has ended: its owner pays what the meter shows."""
        self._add(OwnerCost(meter.owner, round(meter.cpu_s * 1000), uploads, meter.bytes))
        self.use(meter.owner, TRY_S)

    def use(self, owner: str, seconds: float) -> None:
        """The owner's pictures took decoders for so long, or kept others from them: its turns come later."""
        if seconds:
            self._used[owner] = self.used_s(owner) + seconds, self.clock()
            self._unsaved_s[owner] += seconds

    def used_s(self, owner: str) -> float:
        """Seconds that the owner's pictures took lately: what is a minute old counts half."""
        used_s, at = self._used.get(owner, (0.0, 0.0))
        return used_s * _left_after(self.clock() - at) if used_s else 0.0

    def turn_at(self, owner: str, since: float) -> float:
        """When it is the turn of an owner that has waited since then: the earliest of several is next.

        Who has waited longest goes first, and who has used much later; but nobody waits for ever while others
        come that have used nothing.
        """
        return since + LATER_S * self.used_s(owner)

    def learn(self, uses: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """All workers have saved these uses of owners: how many ms ago, and how many ms.

        What is not saved yet comes on top; what this worker knows is not forgotten for that.
        """
        for owner, found in uses.items():
            saved_s = sum(used_ms / 1000 * _left_after(ago_ms / 1000) for ago_ms, used_ms in found)
            used_s = saved_s + self._unsaved_s.get(owner, 0.0)
            if used_s > self.used_s(owner):
                self._used[owner] = used_s, self.clock()

    def take_uses(self) -> Mapping[str, int]:
        """How many ms each owner has used since this was last asked."""
        uses, self._unsaved_s = self._unsaved_s, defaultdict(float)
        return {owner: ms for owner, used_s in uses.items() if (ms := round(used_s * 1000))}

    def return_uses(self, uses: Mapping[str, int]) -> None:
        """They could not be saved: they are taken again with the next ones."""
        for owner, ms in uses.items():
            self._unsaved_s[owner] += ms / 1000

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
        if before := self._unsaved.get(cost.owner):
            cost = OwnerCost(
                cost.owner,
                before.cpu_ms + cost.cpu_ms,
                before.uploads + cost.uploads,
                before.bytes + cost.bytes,
            )
        self._unsaved[cost.owner] = cost


def _left_after(seconds: float) -> float:
    """Which part of what was used so long ago still counts."""
    return float(0.5 ** (seconds / HALF_LIFE_S))
