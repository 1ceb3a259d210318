"""How much is decoded at once: the one place that bounds CPU and memory; everyone else awaits it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from pipelines.accounts import Accounts
from pipelines.formats import MIB
from pipelines.slots import Slots

MAX_OVERTAKING_S = 5.0  # how long smaller requests may overtake a big one that waits


class NoMemoryError(Exception):
    """`need` bytes are not free now: return your slot, and wait for them."""

    def __init__(self, need: int) -> None:
        super().__init__(f"{need} bytes are not free now")
        self.need = need


@dataclass(eq=False)
class _Request:
    need: int
    owner: str
    turn: asyncio.Future[None]
    since: float


class Admission:
    """Admits pictures to `slots` decoders and `budget` bytes.

    Who holds a slot never waits for memory, so that a big picture keeps nobody from decoding: it leaves with
    NoMemoryError, waits outside, and comes back with its memory in hand. Places and memory go to the owner
    whose turn is next by the `accounts`; each owner's own pictures get them in the order of asking.
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
        """`need` bytes of the budget. Raises: NoMemoryError, also when another has waited long enough."""
        if need > self._free or self._must_queue(owner):
            raise NoMemoryError(need)
        self._free -= need
        try:
            yield
        finally:
            self._return(need)

    @asynccontextmanager
    async def memory(self, need: int, owner: str = "") -> AsyncIterator[None]:
        """`need` bytes of the budget, which must be able to hold them, in fair turns."""
        turn = asyncio.get_running_loop().create_future()
        request = _Request(need, owner, turn, self._accounts.clock())
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
        """Whether somebody has waited for long enough whose turn is before that of this one."""
        if not self._waiting:
            return False
        now = self._accounts.clock()
        own = self._accounts.turn_at(owner, now)
        return any(
            one.since < now - MAX_OVERTAKING_S and (one.owner == owner or self._turn_at(one) <= own)
            for one in self._waiting
        )

    def _turn_at(self, request: _Request) -> float:
        return self._accounts.turn_at(request.owner, request.since)

    def _return(self, need: int) -> None:
        self._free += need
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            request = min(self._waiting, key=self._turn_at)
            if request.need > self._free:
                return
            self._waiting.remove(request)
            if request.turn.cancelled():  # its task has not run since
                continue
            self._free -= request.need
            request.turn.set_result(None)
