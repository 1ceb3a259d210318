"""Accounting: what owners were debited is saved in the catalog every few seconds, and at the end."""

import asyncio

import structlog

from pipelines.accounts import Accounts
from storage.catalog.owner_costs import OwnerCosts
from storage.errors import CatalogUnavailable

log = structlog.get_logger(__name__)

SAVED_AFTER_S = 5.0  # a worker that is killed forgets no more
_CLOSE_TIMEOUT_S = 2.0


class Accounting:
    """Saves the accounts of one worker."""

    def __init__(self, accounts: Accounts, costs: OwnerCosts) -> None:
        self._accounts = accounts
        self._costs = costs

    async def run(self) -> None:
        """Save what was debited, again and again."""
        while True:
            await asyncio.sleep(SAVED_AFTER_S)
            await self.save()

    async def save(self) -> None:
        """Save what was debited; where the catalog is away, the next call does.

        Not in the transactions of the outcomes: one owner's row would have all workers wait for each other.
        """
        unsaved = self._accounts.take_unsaved()
        try:
            if unsaved:
                await self._costs.add(unsaved)
        except CatalogUnavailable:  # its outage is told by what cannot go on without it
            self._accounts.return_unsaved(unsaved)

    async def close(self) -> None:
        """Save the rest, if that goes quickly."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.save()
        except TimeoutError:
            log.warning("owner_costs_not_saved")
