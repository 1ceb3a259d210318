"""Which decoder takes too much memory: what a picture may take beyond its estimate, and at whose cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.formats import MIB
from pipelines.sandbox.child import Child

_OVERDRAFT = 1.25  # times its estimate that a picture may take before its decoder is killed,
_OVERDRAFT_BYTES = 16 * MIB  # and this: estimates of small pictures are rough


class MemoryGuard:
    """Polices the memory of decoders at work: `most` bytes for one picture, and for all of them together."""

    def __init__(self, most: int, growth: Callable[[], int]) -> None:
        self.most = most
        self._growth = growth
        self._announced: dict[Child, int] = {}  # bytes that a working child is to have at most

    @contextmanager
    def watch(self, child: Child, need: int) -> Iterator[Callable[[int], bool]]:
        """Yield the test whether that growth of `child` is too much for a picture estimated at `need`."""
        before = child.memory() - child.idle_memory
        self._announced[child] = child.idle_memory + before + need
        try:
            yield lambda growth: self._is_too_much(child, growth - before, need)
        finally:
            del self._announced[child]

    def most_output(self, estimate: int) -> int:
        """Bytes of all variants of a picture: they count as its memory, and are there twice for a moment."""
        return int(min(estimate * _OVERDRAFT + _OVERDRAFT_BYTES, self.most / 2))

    def _is_too_much(self, child: Child, growth: int, need: int) -> bool:
        """Whether it is far beyond the estimate, or the farthest beyond where all together take too much."""
        if growth <= need:
            return False
        if growth > need * _OVERDRAFT + _OVERDRAFT_BYTES:
            return True
        if self._growth() <= self.most:
            return False
        return child is max(self._announced, key=lambda one: one.memory() - self._announced[one])
