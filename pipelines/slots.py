"""Places for so many at a time, given in fair turns; one can be had, or all of them."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipelines.accounts import Accounts


@dataclass(eq=False)
class _Waiter:
    owner: str
    places: int
    number: int  # in order of asking
    since: float
    given: asyncio.Future[None]


class Slots:
    """`count` places, of which `busy` are taken.

    Who waits is served in fair turns: whoever holds less than half of them goes before the others, and then
    the owner whose turn is next by the `accounts`: it has used little lately, or has waited long; each
    owner's own in the order of asking. So one owner has at most half of the places while others wait; and
    never more than its `share`, if there is one.
    """

    def __init__(
        self,
        count: int,
        *,
        share: int | Callable[[str], int] | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self.count = count
        self._half = max(1, count // 2)
        self._share_of = share if callable(share) else lambda _: count if share is None else share
        self._accounts = accounts or Accounts()
        self._free = count
        self._held: Counter[str] = Counter()
        self._served_at: dict[str, float] = {}  # the last time, of owners that hold places or wait
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._gathering: _Waiter | None = None  # its turn has come, and it waits until enough are free
        self._asked = 0

    def __repr__(self) -> str:
        return f"<Slots: {self.busy} of {self.count} busy>"

    @property
    def busy(self) -> int:
        """How many are taken."""
        return self.count - self._free

    @property
    def are_free(self) -> bool:
        """Whether whoever asks for a place now does not wait."""
        return self._free > 0 and self._gathering is None and not self._waiting

    def are_free_for(self, owner: str) -> bool:
        """Whether that owner gets a place without waiting."""
        return self.are_free and self._held[owner] < self._share_of(owner)

    def are_awaited_by(self, owner: str) -> bool:
        """Whether that owner waits for a place."""
        return owner in self._waiting

    @asynccontextmanager
    async def one(self, owner: str = "") -> AsyncIterator[None]:
        await self._take(owner, 1)
        try:
            yield
        finally:
            self._give_back(owner, 1)

    @asynccontextmanager
    async def exclusive(self, owner: str = "") -> AsyncIterator[None]:
        """All places at once: nobody is beside the holder, who pays for those that it keeps empty."""
        await self._take(owner, self.count)
        began = time.monotonic()
        try:
            yield
        finally:
            self._accounts.use(owner, (time.monotonic() - began) * (self.count - 1))
            self._give_back(owner, self.count)

    async def _take(self, owner: str, places: int) -> None:
        self._asked += 1
        given = asyncio.get_running_loop().create_future()
        turn = _Waiter(owner, places, self._asked, self._accounts.clock(), given)
        self._waiting.setdefault(owner, deque()).append(turn)
        self._serve()
        try:
            await turn.given
        except asyncio.CancelledError:
            if turn.given.cancelled():
                self._forget(turn)
                self._serve()
            else:
                self._give_back(owner, places)
            raise

    def _forget(self, turn: _Waiter) -> None:
        """Wait no more, also where another's leaving has passed it over already."""
        if self._gathering is turn:
            self._gathering = None
        elif turn in self._waiting.get(turn.owner, ()):
            self._remove(turn)

    def _remove(self, turn: _Waiter) -> None:
        waiting = self._waiting[turn.owner]
        waiting.remove(turn)
        if not waiting:
            del self._waiting[turn.owner]
            self._forget_owner(turn.owner)

    def _forget_owner(self, owner: str) -> None:
        if not self._held[owner] and owner not in self._waiting:
            self._served_at.pop(owner, None)

    def _give_back(self, owner: str, places: int) -> None:
        self._free += places
        self._held[owner] -= places
        if not self._held[owner]:
            del self._held[owner]
            self._forget_owner(owner)
        self._serve()

    def _serve(self) -> None:
        while self._free:
            turn = self._gathering = self._gathering or self._next()
            if turn is None or turn.places > self._free:
                return
            self._gathering = None
            if turn.given.cancelled():  # its task has not run since
                continue
            self._free -= turn.places
            self._held[turn.owner] += turn.places
            self._served_at[turn.owner] = self._accounts.clock()
            turn.given.set_result(None)

    def _next(self) -> _Waiter | None:
        """Take the next turn from those that wait; None where nobody may have a place now."""
        firsts = [turns[0] for turns in self._waiting.values() if self._may_have_one(turns[0])]
        if not firsts:
            return None
        turn = firsts[0] if len(firsts) == 1 else min(firsts, key=self._rank)
        self._remove(turn)
        return turn

    def _may_have_one(self, turn: _Waiter) -> bool:
        return turn.places == self.count or self._held[turn.owner] < self._share_of(turn.owner)

    def _rank(self, turn: _Waiter) -> tuple[bool, float, int, int]:
        held = self._held[turn.owner]
        since = max(turn.since, self._served_at.get(turn.owner, turn.since))
        return held >= self._half, self._accounts.turn_at(turn.owner, since), held, turn.number
