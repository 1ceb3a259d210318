"""Old rows, deleted a page a transaction: nobody waits long for one, and none takes longer than it may."""

from sqlalchemy import Column, ColumnElement, delete, select, tuple_

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.paging import PAGE

PAGES = 100  # at most: what is left then goes with the next call


async def prune(database: Database, made: Column[int], before_ms: int, *also: ColumnElement[bool]) -> int:
    """Delete rows whose `made` is before `before_ms`, oldest first, as many as `PAGES` are at most.

    What must hold `also` is asked of each. Returns how many were deleted. Raises: CatalogUnavailable.
    """
    gone = 0
    for _ in range(PAGES):
        page = await _prune_page(database, made, made < before_ms, *also)
        gone += page
        if page < PAGE:
            break
    return gone


@repeated
async def _prune_page(database: Database, made: Column[int], *old: ColumnElement[bool]) -> int:
    key = made.table.primary_key.columns
    # In order, or a server may look through the whole table, and what earlier pages left there.
    oldest = select(*key).where(*old).order_by(made).limit(PAGE)
    async with database.writing() as connection:
        # Whoever has waited for another's change of a row asks only the outer condition once more.
        return (await connection.execute(delete(made.table).where(tuple_(*key).in_(oldest), *old))).rowcount
