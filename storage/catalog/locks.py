"""What writers of several hosts wait for: rows in one order, and names. One of SQLite is alone anyway."""

from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import bindparam, select

from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.statements import PreparedStatement
from storage.catalog.tables import uploads

SWEEP = "sweep"
"""Whoever writes rows of variants shares this name. Who marks files for deletion, or takes the lease for it,
excludes all others: no mark comes between a writer's look at the marks and its commit, nor the reverse.
"""

_IN_ORDER = (
    select(uploads.c.id).where(uploads.c.id.in_(bindparam("ids", expanding=True))).order_by(uploads.c.id)
)
_LOCK = PreparedStatement(_IN_ORDER.with_for_update(key_share=True))
_LOCK_FREE = PreparedStatement(_IN_ORDER.with_for_update(key_share=True, skip_locked=True))


async def lock_uploads(connection: AsyncConnection, ids: Iterable[UUID]) -> None:
    """Wait for those who change these uploads, in an order in which no two wait for each other."""
    await _LOCK.rows(connection, {"ids": [str(each) for each in ids]})


async def lock_free_uploads(connection: AsyncConnection, ids: Iterable[UUID]) -> Collection[UUID]:
    """Lock those of these uploads that nobody else changes at the moment; returns them."""
    rows = await _LOCK_FREE.rows(connection, {"ids": [str(each) for each in ids]})
    return {UUID(row["id"]) for row in rows}
