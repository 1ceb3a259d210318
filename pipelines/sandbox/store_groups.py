"""Large uploads that were rendered: which are stored together, while more of them wait for their turn."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipelines.formats import MIB

MOST_STORED_TOGETHER = 4
_LONGEST_S = 1.0  # a decoder may be slow
_MOST_BYTES = 4 * MIB  # of variants; those of photos have some 0.4 each


class StoreGroups:
    """Has rendered uploads go on together: those that end their work at once also begin the next at once.

    Files that are flushed, outcomes that are committed and claims that are taken together cost little more
    than one. An upload waits for others only while more of its owner's wait for their turn, so none waits
    that was sent alone.
    """

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._at_work = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # the bytes of their variants
        self._end: asyncio.Task[None] | None = None  # of their wait

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count an upload, for which others may wait."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            self._go_on_if_complete()

    async def join(
        self, variant_bytes: int, *, more_wait: bool, stopping: asyncio.Event | None = None
    ) -> None:
        """Return once the upload, one of those at `work`, is to be stored.

        That is at once unless `more_wait`, and where the worker is `stopping`: nobody follows then.
        """
        stopping = stopping or asyncio.Event()
        one = variant_bytes, asyncio.get_running_loop().create_future()
        self._waiting.append(one)
        if not more_wait or stopping.is_set():
            self._go_on()
        else:
            self._go_on_if_complete()
        if self._waiting and self._end is None:
            self._end = asyncio.create_task(self._end_wait(stopping))
        try:
            await one[1]
        finally:
            if one in self._waiting:  # it was cancelled
                self._waiting.remove(one)
                if not self._waiting:
                    self._go_on()

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
