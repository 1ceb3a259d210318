"""Accounting: workers save what owners were debited, and learn from each other what these used lately."""

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from pipelines.accounts import Accounts
from storage.catalog.owner_costs import OwnerCosts
from storage.catalog.owner_uses import OwnerUses
from storage.errors import CatalogUnavailable

log = structlog.get_logger(__name__)

SAVED_AFTER_S = 5.0  # a worker that is killed forgets no more
_LOOKS_AFTER_S = 1.0  # for owners that have come since
_CLOSE_TIMEOUT_S = 2.0


class Accounting:
    """Saves the accounts of one worker, and has it learn of the owners that are `waiting` here."""

    def __init__(
        self, accounts: Accounts, costs: OwnerCosts, uses: OwnerUses, waiting: Callable[[], Collection[str]]
    ) -> None:
        self._accounts = accounts
        self._costs = costs
        self._uses = uses
        self._waiting = waiting
        self._learned: set[str] = set()  # owners, since it saved

    async def run(self) -> None:
        """Save what was debited, and learn what others have saved, again and again."""
        saved_at = time.monotonic()
        while True:
            await self.learn()
            await asyncio.sleep(min(_LOOKS_AFTER_S, SAVED_AFTER_S))
            if time.monotonic() - saved_at >= SAVED_AFTER_S:
                await self.save()
                saved_at = time.monotonic()

    async def learn(self) -> None:
        """Learn what owners that wait here have used in the last minutes, once after each `save`."""
        owners = {*self._waiting()} - self._learned
        try:
            if owners:
                self._accounts.learn(await self._uses.lately(owners))
        except CatalogUnavailable:
            return  # then what this worker knows by itself counts
        self._learned |= owners

    async def save(self) -> None:
        """Save what was debited; where the catalog is away, the next call does.

        Not in the transactions of the outcomes: one owner's row would have all workers wait for each other.
        """
        self._learned.clear()
        await self._save_costs()
        await self._save_uses()

    async def _save_costs(self) -> None:
        unsaved = self._accounts.take_unsaved()
        try:
            if unsaved:
                await self._costs.add(unsaved)
        except CatalogUnavailable:  # its outage is told by what cannot go on without it
            self._accounts.return_unsaved(unsaved)

    async def _save_uses(self) -> None:
        uses = self._accounts.take_uses()
        try:
            if uses:
                await self._uses.add(uses)
        except CatalogUnavailable:
            self._accounts.return_uses(uses)

    async def close(self) -> None:
        """Save the rest, if that goes quickly."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.save()
        except TimeoutError:
            log.warning("owner_costs_not_saved")
