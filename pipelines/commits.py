"""Group commits: outcomes that are ready at about the same time share one transaction."""

import asyncio
from collections.abc import Callable, Sequence

from storage.catalog.claims import Claims
from storage.catalog.facts import Committed, Notice, Outcome

FULL = 16  # outcomes
PATIENCE_S = 0.1


class Committer:
    """Commits outcomes when 16 wait, when 100 ms have passed, or at once when no other can be expected."""

    def __init__(
        self, claims: Claims, *, expected: Callable[[], bool], told: Callable[[Sequence[Notice]], None]
    ) -> None:
        self._claims = claims
        self._expected = expected
        self._told = told
        self._waiting: list[tuple[Outcome, asyncio.Future[Committed]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[None]] = set()

    async def submit(self, outcome: Outcome) -> Committed:
        """What became of `outcome`, once it is durable. Raises: CatalogUnavailable.

        Who is cancelled meanwhile leaves only when what was submitted has been written.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed] = loop.create_future()
        self._waiting.append((outcome, future))
        if len(self._waiting) >= FULL or not self._expected():
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(PATIENCE_S, self._flush)
        try:
            return await future
        except asyncio.CancelledError:
            self._flush()
            if self._flushing:
                await asyncio.shield(asyncio.wait(self._flushing))
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
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        self._told([result.notice for result in committed if result.notice])
        for (_, future), result in zip(group, committed, strict=True):
            if not future.done():
                future.set_result(result)
