"""Large uploads that were rendered: which are stored together, while more of them wait for their turn."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pipelines.formats import MIB

MOST_STORED_TOGETHER = 4
_LONGEST_S = 0.25  # in which four photos are rendered that take 60 ms each
_MOST_BYTES = 4 * MIB  # of variants; those of photos have some 0.4 each


class StoreGroups:
    """Has rendered uploads go on together: those that end their work at once also begin the next at once.

    Files that are flushed, outcomes that are committed and claims that are taken together cost little more
    than one. An upload waits for others only while more of its owner's wait for their turn, so none waits
    that was sent alone; and only where uploads are rendered so fast that another is expected in that time.
    """

    def __init__(self, longest_s: float = _LONGEST_S, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_s = longest_s
        self._clock = clock
        self._at_work = 0
        self._rendered_at: deque[float] = deque(maxlen=MOST_STORED_TOGETHER)  # the last ones, or work began
        self._until = 0.0  # those that wait do so at most
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # the bytes of their variants
        self._end: asyncio.Task[None] | None = None  # of their wait

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count an upload, for which others may wait."""
        if not self._at_work:
            self._rendered_at.clear()
            self._rendered_at.append(self._clock())
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            self._go_on_if_complete()

    async def join(
        self, variant_bytes: int, *, more_wait: bool, stopping: asyncio.Event | None = None
    ) -> float:
        """Wait until the upload, one of those at `work`, is to be stored; returns for how many seconds.

        That is at once unless `more_wait`, and where the worker is `stopping`: nobody follows then.
        """
        stopping = stopping or asyncio.Event()
        now = self._clock()
        next_at = self._expect_next(now)
        if not self._waiting:
            self._until = now + self._longest_s
        one = variant_bytes, asyncio.get_running_loop().create_future()
        self._waiting.append(one)
        if not more_wait or stopping.is_set() or next_at > self._until:
            self._go_on()
        else:
            self._go_on_if_complete()
        if one[1].done():
            return 0.0
        if self._end is None:
            self._end = asyncio.create_task(self._end_wait(stopping))
        try:
            await one[1]
        finally:
            if one in self._waiting:  # it was cancelled
                self._waiting.remove(one)
                if not self._waiting:
                    self._go_on()
        return self._clock() - now

    def _expect_next(self, now: float) -> float:
        """When another is rendered, if it takes as long as the last ones did, of which one is now."""
        self._rendered_at.append(now)
        return now + (now - self._rendered_at[0]) / (len(self._rendered_at) - 1)

    async def _end_wait(self, stopping: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._longest_s):
                await stopping.wait()
        self._end = None
        self._go_on()

    def _go_on_if_complete(self) -> None:
        is_full = len(self._waiting) >= MOST_STORED_TOGETHER
        if is_full or len(self._waiting) >= self._at_work or self._waiting_bytes > _MOST_BYTES:
            self._go_on()

    @property
    def _waiting_bytes(self) -> int:
        return sum(variant_bytes for variant_bytes, _ in self._waiting)

    def _go_on(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_result(None)
