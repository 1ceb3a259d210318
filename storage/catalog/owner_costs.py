"""What the pictures of each owner cost: added up by the hour, and forgotten after a while."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import select

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.paging import pages
from storage.catalog.pruning import prune
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.tables import owner_costs, summed
from storage.totals import OwnerCost

if TYPE_CHECKING:
    from storage.catalog.sqlalchemy_parts import Insert

HOUR_MS = 3_600_000
HOURS = 24  # that a report looks back, the present one included

_AMOUNTS = ("cpu_ms", "uploads", "bytes")


@cache
def _adding() -> "Insert":
    new = insert(owner_costs)
    return new.on_conflict_do_update(
        index_elements=["owner", "hour"],
        set_={name: owner_costs.c[name] + new.excluded[name] for name in _AMOUNTS},
    )


class OwnerCosts:
    """What is debited to owners. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, costs: Sequence[OwnerCost]) -> None:
        """Add `costs` to those of their owners in this hour; a power cut may undo it."""
        for page in pages(sorted(costs, key=lambda cost: cost.owner)):  # all lock them in one order
            await self._add_page(page)

    @repeated
    async def _add_page(self, costs: Sequence[OwnerCost]) -> None:
        hour = self._database.now_ms() // HOUR_MS
        async with self._database.writing(relaxed_durability=True) as connection:
            await connection.execute(_adding(), [{**vars(cost), "hour": hour} for cost in costs])

    async def prune(self, before_ms: int) -> int:
        """Remove what was debited in hours before that one, or some of it; returns how many rows."""
        return await prune(self._database, owner_costs.c.hour, before_ms // HOUR_MS)


async def dearest(connection: AsyncConnection, now_ms: int, limit: int) -> Sequence[OwnerCost]:
    """The owners whose pictures took most CPU time in this hour and the 23 before it, the dearest first."""
    lately = owner_costs.c.hour > now_ms // HOUR_MS - HOURS
    cpu_ms, *others = (summed(owner_costs.c[name]).label(name) for name in _AMOUNTS)
    query = select(owner_costs.c.owner, cpu_ms, *others).where(lately).group_by(owner_costs.c.owner)
    first = query.order_by(cpu_ms.desc(), owner_costs.c.owner).limit(limit)
    return [OwnerCost(*row) for row in await connection.execute(first)]
