"""How much is decoded at once: the one place that bounds CPU and memory; everyone else awaits it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from pipelines.formats import MIB
from pipelines.slots import Slots

MAX_OVERTAKING_S = 5.0  # how long smaller requests may overtake a big one that waits


class NoRoomError(Exception):
    """There is no room for `need` bytes now: return your slot, and wait for them."""

    def __init__(self, need: int) -> None:
        super().__init__(f"no room for {need} bytes now")
        self.need = need


@dataclass(eq=False)
class _Request:
    need: int
    turn: asyncio.Future[None]
    since: float = field(default_factory=time.monotonic)


class Admission:
    """Admits pictures to `slots` decoders and `budget` bytes.

    Who holds a slot never waits for memory, so that a big picture keeps nobody from decoding: it leaves with
    NoRoomError, waits outside, and comes back with its memory in hand.
    """

    def __init__(self, slots: int, budget: int) -> None:
        self.slots = Slots(slots)
        self.budget = budget
        self._free = budget
        self._waiting: deque[_Request] = deque()

    def __repr__(self) -> str:
        free = f"{self._free // MIB} of {self.budget // MIB} MiB free"
        busy = f"{self.slots.busy} of {self.slots.count} slots busy"
        return f"<Admission: {busy}, {free}, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """How many pictures wait for memory."""
        return len(self._waiting)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """All places and all memory at once: nobody decodes beside the holder."""
        async with self.memory(self.budget), self.slots.exclusive():
            yield

    @contextmanager
    def memory_now(self, need: int) -> Iterator[None]:
        """`need` bytes of the budget. Raises: NoRoomError, also when another has waited long enough."""
        if need > self._free or self._must_queue():
            raise NoRoomError(need)
        self._free -= need
        try:
            yield
        finally:
            self._return(need)

    @asynccontextmanager
    async def memory(self, need: int) -> AsyncIterator[None]:
        """`need` bytes of the budget, which must be able to hold them, in the order of asking."""
        request = _Request(need, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._serve()
        try:
            await request.turn
        except asyncio.CancelledError:
            if request in self._waiting:
                self._waiting.remove(request)
                self._serve()
            else:
                self._return(need)
            raise
        try:
            yield
        finally:
            self._return(need)

    def _must_queue(self) -> bool:
        return bool(self._waiting) and time.monotonic() - self._waiting[0].since > MAX_OVERTAKING_S

    def _return(self, need: int) -> None:
        self._free += need
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0].need <= self._free:
            request = self._waiting.popleft()
            self._free -= request.need
            request.turn.set_result(None)
