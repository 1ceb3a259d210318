"""How many uploads of an owner are at work at once: few of large pictures, small ones enough for groups."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipelines.accounts import Accounts
from pipelines.sandbox.groups import MOST_IN_GROUP, SMALL_BYTES
from pipelines.slots import Slots

_MOST_KNOWN = 1000  # owners


class Rooms:
    """Rooms for uploads, from the opened original to the stored variants, which are in memory meanwhile.

    An owner's pictures are mostly alike: whose last one was large claims no more uploads than may be in work.
    """

    def __init__(self, decoders: int, accounts: Accounts | None = None, *, groups: bool = True) -> None:
        self.few = 2 * decoders + 2
        """Of an owner's large ones."""
        self.most = MOST_IN_GROUP * (decoders + 1) if groups else self.few
        """Of an owner's small ones: a group for each decoder, and one behind them."""
        self._large = Slots(2 * self.few, share=self.few, accounts=accounts)
        self._had_large: OrderedDict[str, None] = OrderedDict()

    def share_of(self, owner: str) -> int:
        """How many uploads of that owner may be at work at once."""
        return self.few if owner in self._had_large else self.most

    @asynccontextmanager
    async def room(self, source_bytes: int, owner: str = "") -> AsyncIterator[None]:
        """A room for an upload whose original has so many bytes; others' turns may come first."""
        if source_bytes <= SMALL_BYTES:
            self._had_large.pop(owner, None)
            yield
            return
        self._had_large[owner] = None
        if len(self._had_large) > _MOST_KNOWN:
            self._had_large.popitem(last=False)
        async with self._large.one(owner):
            yield
