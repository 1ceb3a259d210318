"""What applying a plan changes in the catalog: rows, and the deletion marks that make it safe."""

from collections.abc import Sequence

from sqlalchemy import String, bindparam, column, delete, exists, or_, select, update

from storage.catalog import locks
from storage.catalog.conflicts import repeated
from storage.catalog.kv import dump, each_of
from storage.catalog.leases import is_live, lease_holder
from storage.catalog.pruning import prune
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.sweep_records import SWEEP, SweepRecords
from storage.catalog.tables import Big, deletion_marks, kv, variants

_HAS_LEASE = exists().where(kv.c.name == SWEEP, lease_holder == bindparam("holder", type_=String))
# Only where no row has the key: a Ready outcome asks for marks in the same way, in its own statement, and the
# lock has one of the two wait for the other.
_KEYS = each_of(bindparam("keys", type_=String)).table_valued(column("value", String), name="wanted")
_NEW_MARK = insert(deletion_marks).from_select(
    ["key", "marked_ms"],
    select(_KEYS.c.value, bindparam("now", type_=Big)).where(
        ~exists().where(variants.c.key == _KEYS.c.value), _HAS_LEASE
    ),
)
_MARK = _NEW_MARK.on_conflict_do_update(
    index_elements=["key"], set_={"marked_ms": _NEW_MARK.excluded.marked_ms, "moved_ms": None}
).returning(deletion_marks.c.key)


class Sweeps(SweepRecords):
    """What a sweep changes in one catalog. While a key has a deletion mark, no row can take it.

    Every verb raises CatalogUnavailable.
    """

    @repeated
    async def mark_for_deletion(self, holder: str, keys: Sequence[str]) -> frozenset[str]:
        """Mark those of `keys` that no row has, so that no row can take them; returns the marked keys.

        A holder that has lost the lease marks none.
        """
        async with self._database.writing() as connection:
            await self._database.exclude(connection, locks.SWEEP)
            return await _mark(connection, holder, keys, self._database.now_ms())

    @repeated
    async def mark_superseded(self, holder: str, keys: Sequence[str], before_ms: float) -> frozenset[str]:
        """Delete the rows of those of `keys` that were superseded before `before_ms`; then mark the keys.

        The marked keys that are returned include those whose rows an earlier sweep deleted before it died.
        A holder that has lost the lease deletes and marks none.
        """
        async with self._database.writing() as connection:
            await self._database.exclude(connection, locks.SWEEP)
            old = variants.c.key.in_(keys), variants.c.superseded_ms < int(before_ms)
            await connection.execute(delete(variants).where(*old, _HAS_LEASE), {"holder": holder})
            return await _mark(connection, holder, keys, self._database.now_ms())

    @repeated
    async def clear_marks(
        self, holder: str, *, moved: Sequence[str], untouched: Sequence[str]
    ) -> frozenset[str]:
        """Clear the marks of `untouched` keys and write the time into those of `moved` keys.

        The marks of moved keys stay, because a writer that claimed its upload before that time may rely on a
        file that is gone, and has to publish it again. A holder that has lost the lease leaves open marks to
        the sweep that took over. Returns the moved keys that a row references by now; there are some only
        after such a loss.
        """
        of_untouched = deletion_marks.c.key.in_(untouched), _HAS_LEASE
        of_moved = deletion_marks.c.key.in_(moved), or_(deletion_marks.c.moved_ms.is_not(None), _HAS_LEASE)
        moved_now, me = update(deletion_marks).values(moved_ms=self._database.now_ms()), {"holder": holder}
        async with self._database.writing() as connection:
            await self._database.exclude(connection, locks.SWEEP)
            await connection.execute(delete(deletion_marks).where(*of_untouched), me)
            await connection.execute(moved_now.where(*of_moved), me)
            query = select(variants.c.key).where(variants.c.key.in_(moved))
            return frozenset((await connection.execute(query)).scalars())

    @repeated
    async def clear_abandoned_marks(self, holder: str = "") -> int:
        """Treat the keys that a dead sweep marked as moved; returns how many there were.

        Does nothing while another than `holder` has the sweep lease.
        """
        now, unfinished = self._database.now_ms(), deletion_marks.c.moved_ms.is_(None)
        async with self._database.reading() as connection:
            found = await connection.execute(select(deletion_marks.c.key).where(unfinished).limit(1))
            if found.first() is None:
                return 0
        anothers = exists().where(kv.c.name == SWEEP, lease_holder != holder, is_live(now))
        async with self._database.writing() as connection:
            await self._database.exclude(connection, locks.SWEEP)
            finished = update(deletion_marks).where(unfinished, ~anothers).values(moved_ms=now)
            return (await connection.execute(finished)).rowcount

    async def prune_marks(self, before_ms: int) -> int:
        """Delete the marks of keys that were moved before `before_ms`, or some of them; returns their number.

        No worker works as long on an upload as they are old, so nobody asks for them any more.
        """
        return await prune(self._database, deletion_marks.c.moved_ms, before_ms)

    @repeated
    async def drop_superseded(self, keys: Sequence[str]) -> Sequence[str]:
        """Delete the rows of those of `keys` that are superseded; returns these keys.

        One statement needs no lock: a row that an outcome makes current just now is waited for, and stays.
        """
        gone = delete(variants).where(variants.c.key.in_(keys), variants.c.superseded_ms.is_not(None))
        async with self._database.writing() as connection:
            return list((await connection.execute(gone.returning(variants.c.key))).scalars())


async def _mark(connection: AsyncConnection, holder: str, keys: Sequence[str], now: int) -> frozenset[str]:
    """All in one statement: every host that would make an upload ready waits meanwhile."""
    mark = {"holder": holder, "now": now, "keys": dump(sorted(set(keys)))}
    return frozenset((await connection.execute(_MARK, mark)).scalars())
