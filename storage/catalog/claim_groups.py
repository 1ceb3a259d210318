"""Claims that are asked for, or about, at the same time: which of them share a transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from storage.catalog.records import Claim
from storage.errors import CatalogDamaged, CatalogUnavailable
from storage.threads import copied

MOST = 32  # uploads


@dataclass(frozen=True, eq=False)
class Wanted:
    """A claim that somebody asks for, and waits for as `given`."""

    upload_id: UUID
    job_id: str
    holder: str
    given: asyncio.Future[Claim | None]


class Take(Protocol):
    """Takes claims of one holder, each of another upload, in one transaction.

    Returns what each upload gets. Those whose rows others have locked are left out, unless it `waits` for
    them, as it may for one upload alone.
    """

    def __call__(
        self, wanted: Sequence[Wanted], *, waits: bool
    ) -> Awaitable[Mapping[UUID, Claim | None]]: ...


class ClaimGroups:
    """Has claims taken together that wait when it begins: at the next turn of the loop, or after others.

    One that others have locked is taken alone, and nobody else waits for it.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._waiting: list[Wanted] = []
        self._taking: asyncio.Task[None] | None = None
        self._alone: set[asyncio.Task[None]] = set()

    async def claim(self, upload_id: UUID, job_id: str, holder: str) -> Claim | None:
        """The claim, once it is written. Raises: CatalogUnavailable.

        It is written also for a caller that is cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        wanted = Wanted(upload_id, job_id, holder, loop.create_future())
        self._waiting.append(wanted)
        if self._taking is None:
            self._taking = loop.create_task(self._take_all())
        return await wanted.given

    async def _take_all(self) -> None:
        try:
            while group := self._next():
                await self._give(group)
        finally:
            self._taking = None
            for wanted in self._waiting:  # the loop ends
                wanted.given.cancel()
            self._waiting.clear()

    def _next(self) -> Sequence[Wanted]:
        """Take those that wait and can go together: each of another upload, all of one holder."""
        group: dict[UUID, Wanted] = {}
        left: list[Wanted] = []
        for wanted in self._waiting:
            holder = next(iter(group.values())).holder if group else wanted.holder
            fits = wanted.holder == holder and wanted.upload_id not in group and len(group) < MOST
            if fits:
                group[wanted.upload_id] = wanted
            else:
                left.append(wanted)
        self._waiting = left
        return list(group.values())

    def _give_alone(self, wanted: Wanted) -> None:
        task = asyncio.create_task(self._give([wanted], waits=True))
        self._alone.add(task)
        task.add_done_callback(self._alone.discard)
        task.add_done_callback(lambda _: wanted.given.cancel())  # if the loop ends before it begins

    async def _give(self, group: Sequence[Wanted], *, waits: bool = False) -> None:
        try:
            claims = await self._take(group, waits=waits)
        except Exception as error:  # handed to everyone who waits
            if len(group) > 1 and (
                isinstance(error, CatalogDamaged) or not isinstance(error, CatalogUnavailable)
            ):
                for wanted in group:  # one by one, so that a row which cannot be read keeps nobody else's
                    await self._give([wanted])
                return
            for wanted in group:
                if not wanted.given.done():
                    wanted.given.set_exception(error)
            return
        except BaseException:
            for wanted in group:
                wanted.given.cancel()
            raise
        for wanted in group:
            if wanted.upload_id not in claims:
                self._give_alone(wanted)
            elif not wanted.given.done():
                wanted.given.set_result(claims[wanted.upload_id])


WhichHold = Callable[[Sequence[Claim]], Awaitable[Sequence[bool]]]
"""Says of each claim whether it holds, by one statement."""


class HeldClaims:
    """Answers whether claims hold, all by one statement that begins after they were asked about."""

    def __init__(self, which_hold: WhichHold) -> None:
        self._which_hold = which_hold
        self._asked: list[tuple[Claim, asyncio.Future[bool]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def holds(self, claim: Claim) -> bool:
        """Whether it holds. Raises: CatalogUnavailable."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        self._asked.append((claim, answer))
        if self._answering is None:
            self._answering = loop.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        asked: Sequence[tuple[Claim, asyncio.Future[bool]]] = []
        try:
            while self._asked:
                asked, self._asked = self._asked[:MOST], self._asked[MOST:]
                await self._answer(asked)
        finally:
            self._answering = None
            for _, answer in [*asked, *self._asked]:  # the loop ends
                answer.cancel()
            self._asked.clear()

    async def _answer(self, asked: Sequence[tuple[Claim, asyncio.Future[bool]]]) -> None:
        try:
            found = await self._which_hold([claim for claim, _ in asked])
        except Exception as error:  # handed to everyone who waits
            if isinstance(error, CatalogDamaged) and len(asked) > 1:
                for one in asked:  # so that a row which cannot be read keeps nobody else's
                    await self._answer([one])
                return
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(copied(error))
            return
        for (_, answer), holds in zip(asked, found, strict=True):
            if not answer.done():
                answer.set_result(holds)
