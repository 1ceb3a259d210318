"""What owners have used in the last minutes, as all workers say: each learns from it whose turn is late."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import bindparam, select

from storage.catalog.clock import SKEW_MS
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.paging import pages
from storage.catalog.pruning import prune
from storage.catalog.sqlalchemy_parts import insert
from storage.catalog.tables import owner_uses

SLOT_MS = 20_000
KEPT_MS = 300_000  # longer ago it counts for next to nothing
_NEVER = 2**62

_NEW = insert(owner_uses)
_ADD = _NEW.on_conflict_do_update(
    index_elements=["owner", "slot"], set_={"used_ms": owner_uses.c.used_ms + _NEW.excluded.used_ms}
)
_LATELY = select(owner_uses).where(
    owner_uses.c.owner.in_(bindparam("owners", expanding=True)),
    owner_uses.c.slot > bindparam("after"),
    owner_uses.c.slot <= bindparam("latest"),
)

Uses = Sequence[tuple[int, int]]
"""How many ms ago, and how many ms were used then."""


class OwnerUses:
    """What owners have used lately. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, used_ms: Mapping[str, int]) -> None:
        """Add these ms to what their owners use now; a power cut may undo it."""
        for page in pages(sorted(used_ms.items())):  # all lock them in one order
            await self._add_page(page)

    @repeated
    async def _add_page(self, used_ms: Sequence[tuple[str, int]]) -> None:
        slot = self._database.now_ms() // SLOT_MS
        rows = [{"owner": owner, "slot": slot, "used_ms": ms} for owner, ms in used_ms]
        async with self._database.writing(relaxed_durability=True) as connection:
            await connection.execute(_ADD, rows)

    async def lately(self, owners: Collection[str]) -> Mapping[str, Uses]:
        """What these owners have used within `KEPT_MS`; who has used nothing is left out."""
        now = self._database.now_ms()
        latest = (now + SKEW_MS) // SLOT_MS
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        async with self._database.reading() as connection:
            for page in pages(sorted(owners)):
                values = {"owners": page, "after": (now - KEPT_MS) // SLOT_MS, "latest": latest}
                for owner, slot, used_ms in await connection.execute(_LATELY, values):
                    found[owner].append((max(0, now - slot * SLOT_MS - SLOT_MS // 2), used_ms))
        return found

    async def prune(self) -> int:
        """Remove what counts no more, or some of it; returns how many rows.

        So goes what a clock that was ahead has written: it would count as if it were used now, for ever.
        """
        now = self._database.now_ms()
        ahead = owner_uses.c.slot > (now + SKEW_MS) // SLOT_MS
        gone = await prune(self._database, owner_uses.c.slot, (now - KEPT_MS) // SLOT_MS)
        return gone + await prune(self._database, owner_uses.c.slot, _NEVER, ahead)
