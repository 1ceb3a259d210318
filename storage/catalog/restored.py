"""The mark of a catalog that was restored: by which restore, and which catalogs it took the place of."""

from collections.abc import Iterable

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.kv import read_value, write_value

RESTORED = "restored"  # the name of a row of `kv`


@repeated
async def mark_restored(database: Database, nonce: str, replaced: Iterable[str]) -> None:
    """Mark a catalog as made ready by the restore of that `nonce`, in the place of those catalogs."""
    async with database.writing() as connection:
        await write_value(connection, RESTORED, {"nonce": nonce, "replaced": sorted(replaced)})


async def read_replaced(database: Database) -> frozenset[str]:
    """The IDs of other catalogs in whose place this one was put, also by earlier restores."""
    async with database.reading() as connection:
        found = await read_value(connection, RESTORED)
    return frozenset(found["replaced"] if found else ())
