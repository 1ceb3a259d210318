"""How many uploads of an owner are at work at once: few of large pictures, small ones enough for groups."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from math import inf

from pipelines.accounts import Accounts
from pipelines.formats import MIB
from pipelines.sandbox.groups import MOST_IN_GROUP, SMALL_BYTES
from pipelines.sandbox.store_groups import MOST_STORED_TOGETHER, StoreGroups
from pipelines.slots import Slots

_MOST_KNOWN = 1000  # owners
_MOST_UNSTORED = 16 * MIB  # of variants, beside those that decoders are making


class NotBegunError(Exception):
    """An upload got no room in the time that it has; nothing was done for it."""


@dataclass(frozen=True)
class Patience:
    """How long an upload waits for its room: until that time of the event loop, or the worker stops."""

    until: float = inf
    stopping: asyncio.Event | None = None

    async def enter(self, room: AbstractAsyncContextManager[None], stack: AsyncExitStack) -> None:
        """Have `stack` hold the room. Raises: NotBegunError."""
        try:
            async with asyncio.timeout_at(None if self.until == inf else self.until) as wait:
                stops = asyncio.create_task(self._end_at_stop(wait)) if self.stopping else None
                try:
                    await stack.enter_async_context(room)
                finally:
                    if stops:
                        stops.cancel()
        except TimeoutError:
            raise NotBegunError from None

    async def _end_at_stop(self, wait: asyncio.Timeout) -> None:
        if self.stopping and await self.stopping.wait():
            wait.reschedule(asyncio.get_running_loop().time())


ENDLESS = Patience()


class Rooms:
    """Rooms for uploads, from the opened original to the stored variants, which are in memory meanwhile.

    An owner's pictures are mostly alike: whose last one was large claims no more uploads than may be in work.
    """

    def __init__(
        self,
        decoders: int,
        accounts: Accounts | None = None,
        *,
        groups: bool = True,
        store_groups: StoreGroups | None = None,
    ) -> None:
        self.few = 2 * decoders + MOST_STORED_TOGETHER
        """Of an owner's large ones: in a decoder, one behind each of these, and those that are stored."""
        self.most = MOST_IN_GROUP * (decoders + 1) if groups else self.few
        """Of an owner's small ones: a group for each decoder, and one behind them."""
        self._large = Slots(2 * self.few, share=self.few, accounts=accounts)
        self._store_groups = store_groups or StoreGroups()
        self._had_large: OrderedDict[str, None] = OrderedDict()
        self._unstored = 0
        self._is_stored = asyncio.Event()
        self._is_stored.set()

    def share_of(self, owner: str) -> int:
        """How many uploads of that owner may be at work at once."""
        return self.few if owner in self._had_large else self.most

    @asynccontextmanager
    async def room(
        self, source_bytes: int, owner: str = "", patience: Patience = ENDLESS
    ) -> AsyncIterator[None]:
        """A room for an upload whose original has so many bytes; others' turns may come first.

        Raises: NotBegunError.
        """
        if source_bytes <= SMALL_BYTES:
            self._had_large.pop(owner, None)
            yield
            return
        self._had_large[owner] = None
        if len(self._had_large) > _MOST_KNOWN:
            self._had_large.popitem(last=False)
        room = self._large.one(owner)
        async with AsyncExitStack() as held:
            if self._large.are_free_for(owner):
                await held.enter_async_context(room)
            else:
                await patience.enter(room, held)
            held.enter_context(self._store_groups.work())
            yield

    async def await_others(
        self,
        source_bytes: int,
        variant_bytes: int,
        owner: str = "",
        patience: Patience = ENDLESS,
        *,
        more_wait: bool,
    ) -> float:
        """Have a large upload in its room wait for others that are then stored with it; returns the seconds.

        It does so while large ones of its owner wait for a room, or if `more_wait` of the owner's to be
        claimed: those are expected to be as the last one was.
        """
        if source_bytes <= SMALL_BYTES:
            return 0.0
        more_wait = self._large.are_awaited_by(owner) or (more_wait and owner in self._had_large)
        return await self._store_groups.join(variant_bytes, more_wait=more_wait, stopping=patience.stopping)

    @contextmanager
    def unstored(self, variant_bytes: int) -> Iterator[None]:
        """Count variants that were rendered until they are stored: a file may become many times its bytes."""
        self._count_unstored(variant_bytes)
        try:
            yield
        finally:
            self._count_unstored(-variant_bytes)

    def _count_unstored(self, variant_bytes: int) -> None:
        self._unstored += variant_bytes
        if self.may_render:
            self._is_stored.set()
        else:
            self._is_stored.clear()

    @property
    def may_render(self) -> bool:
        """Whether few enough variants wait to be stored for more of them to be made."""
        return self._unstored <= _MOST_UNSTORED

    @asynccontextmanager
    async def decoder(self, place: Callable[[], AbstractAsyncContextManager[None]]) -> AsyncIterator[None]:
        """A place of decoders, one or all, as soon as it can be had and more may be rendered."""
        while True:
            await self._is_stored.wait()  # and keep no decoder meanwhile
            async with place():
                if self.may_render:
                    yield
                    return
