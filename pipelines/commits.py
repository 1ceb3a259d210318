"""Group commits: outcomes that are ready at about the same time share one transaction."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from storage.catalog.claims import Claims
from storage.catalog.records import Claim, Committed, Message, Outcome
from storage.errors import CatalogDamaged, CatalogUnavailable

GROUP_SIZE = 8  # outcomes: as many as small pictures go to a decoder together, and so end together
MAX_DELAY_S = 0.1
PAUSES_S = (0.1, 0.4, 1.6)  # before each try to release claims whose outcomes could not be written
MAX_UNRELEASED = 1000  # claims


class Committer:
    """Commits outcomes when 8 wait, when 100 ms have passed, or at once when no other can be expected."""

    def __init__(
        self,
        claims: Claims,
        *,
        expected: Callable[[], bool],
        on_committed: Callable[[Sequence[Message]], None],
    ) -> None:
        self._claims = claims
        self._expected = expected
        self._on_committed = on_committed
        self._waiting: list[tuple[Outcome, asyncio.Future[Committed]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._unreleased: deque[Claim] = deque(maxlen=MAX_UNRELEASED)
        self._flushing: set[asyncio.Task[None]] = set()

    async def submit(self, outcome: Outcome) -> Committed:
        """Return what became of `outcome`, once it is durable. Raises: CatalogUnavailable.

        A caller that is cancelled meanwhile returns only when every submitted outcome has been written.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed] = loop.create_future()
        self._waiting.append((outcome, future))
        if len(self._waiting) >= GROUP_SIZE or not self._expected():
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(MAX_DELAY_S, self._flush)
        try:
            return await future
        except asyncio.CancelledError:
            self._flush()
            if self._flushing:
                await asyncio.shield(asyncio.wait({*self._flushing}))  # a copy: tasks leave the set meanwhile
            raise

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        group, self._waiting = self._waiting, []
        if group:
            task = asyncio.get_running_loop().create_task(self._commit(group))
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def _commit(self, group: Sequence[tuple[Outcome, asyncio.Future[Committed]]]) -> None:
        try:
            committed = await self._claims.commit([outcome for outcome, _ in group])
        except Exception as error:  # handed to everyone who waits
            if isinstance(error, CatalogDamaged) and len(group) > 1:
                # One by one, so that a row which cannot be written keeps no other from its outcome.
                await asyncio.gather(*(self._commit([one]) for one in group))
                return
            self._unreleased.extend(outcome.claim for outcome, _ in group)
            # Release the claims before their job ends: otherwise the next one counts them as crashes.
            for pause in PAUSES_S:
                await asyncio.sleep(pause)
                if await self._release_all():
                    break
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        self._on_committed([message for result in committed for message in result.messages])
        for (_, future), result in zip(group, committed, strict=True):
            if not future.done():
                future.set_result(result)
        await self._release_all()

    async def _release_all(self) -> bool:
        """Release the claims whose outcomes could not be written; False where the catalog is unavailable."""
        unreleased = list(self._unreleased)
        try:
            if unreleased:
                await self._release(unreleased)
        except CatalogUnavailable:
            return False
        for claim in unreleased:
            with suppress(ValueError):
                self._unreleased.remove(claim)
        return True

    async def _release(self, unreleased: Sequence[Claim]) -> None:
        try:
            await self._claims.release(unreleased)
        except CatalogDamaged:
            for claim in unreleased:
                with suppress(CatalogDamaged):  # nobody can change that row
                    await self._claims.release([claim])
