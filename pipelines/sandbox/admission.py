"""How much is decoded at once: the one place that bounds CPU and memory; everyone else awaits it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from pipelines.accounts import Accounts
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
    owner: str
    turn: asyncio.Future[None]
    since: float = field(default_factory=time.monotonic)


class Admission:
    """Admits pictures to `slots` decoders and `budget` bytes.

    Who holds a slot never waits for memory, so that a big picture keeps nobody from decoding: it leaves with
    NoRoomError, waits outside, and comes back with its memory in hand. Places and memory go to the owner that
    has used least lately; each owner's own pictures get them in the order of asking.
    """

    def __init__(self, slots: int, budget: int, accounts: Accounts | None = None) -> None:
        self._accounts = accounts or Accounts()
        self.slots = Slots(slots, accounts=self._accounts)
        self.budget = budget
        self._free = budget
        self._waiting: list[_Request] = []  # in the order of asking

    def __repr__(self) -> str:
        free = f"{self._free // MIB} of {self.budget // MIB} MiB free"
        busy = f"{self.slots.busy} of {self.slots.count} slots busy"
        return f"<Admission: {busy}, {free}, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """How many pictures wait for memory."""
        return len(self._waiting)

    @asynccontextmanager
    async def exclusive(self, owner: str = "") -> AsyncIterator[None]:
        """All places and all memory at once: nobody decodes beside the holder."""
        async with self.memory(self.budget, owner), self.slots.exclusive(owner):
            yield

    @contextmanager
    def memory_now(self, need: int, owner: str = "") -> Iterator[None]:
        """`need` bytes of the budget. Raises: NoRoomError, also when another has waited long enough."""
        if need > self._free or self._must_queue(owner):
            raise NoRoomError(need)
        self._free -= need
        try:
            yield
        finally:
            self._return(need)

    @asynccontextmanager
    async def memory(self, need: int, owner: str = "") -> AsyncIterator[None]:
        """`need` bytes of the budget, which must be able to hold them, in fair turns."""
        request = _Request(need, owner, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._serve()
        try:
            await request.turn
        except asyncio.CancelledError:
            if request.turn.cancelled():
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

    def _must_queue(self, owner: str) -> bool:
        """Whether somebody has waited for long enough whose owner has not used more than this one."""
        if not self._waiting:
            return False
        late, used_s = time.monotonic() - MAX_OVERTAKING_S, self._accounts.used_s
        return any(
            one.since < late and (one.owner == owner or used_s(one.owner) <= used_s(owner))
            for one in self._waiting
        )

    def _return(self, need: int) -> None:
        self._free += need
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            request = min(self._waiting, key=lambda one: self._accounts.used_s(one.owner))
            if request.need > self._free:
                return
            self._waiting.remove(request)
            if request.turn.cancelled():  # its task has not run since
                continue
            self._free -= request.need
            request.turn.set_result(None)
