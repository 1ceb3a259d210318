"""Claims that are asked for at the same time: which of them share a transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from storage.catalog.records import Claim
from storage.errors import CatalogDamaged, CatalogUnavailable

MOST = 32  # uploads


@dataclass(frozen=True, eq=False)
class Wanted:
    """A claim that somebody asks for, and waits for as `given`."""

    upload_id: UUID
    job_id: str
    holder: str
    given: asyncio.Future[Claim | None]


Take = Callable[[Sequence[Wanted]], Awaitable[Sequence[Claim | None]]]
"""Takes claims of one holder, each of another upload, in one transaction."""


class ClaimGroups:
    """Has claims taken together that wait when it begins: at the next turn of the loop, or after others."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._waiting: list[Wanted] = []
        self._taking: asyncio.Task[None] | None = None

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

    async def _give(self, group: Sequence[Wanted]) -> None:
        try:
            claims = await self._take(group)
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
        for wanted, claim in zip(group, claims, strict=True):
            if not wanted.given.done():
                wanted.given.set_result(claim)
