"""Copies of catalogs for backups: made while others work, and examined, whatever database they are of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.catalog.address import SQLITE, Address
from storage.catalog.database import Database
from storage.catalog.facts import CatalogFacts, count_tables, read_facts

ROWS = "catalog.rows.gz"  # the file of a copy of a catalog in Postgres; that of another is SQLite's own


@dataclass(frozen=True)
class CatalogCopy:
    """A copy of a catalog in the file of that name, and what is known of it."""

    file: str
    facts: CatalogFacts


async def copy_catalog(database: Database, folder: Path) -> CatalogCopy:
    """Copy one moment of the catalog into a new file in `folder`; it is sound and durable.

    Raises: CopyRefused, CatalogUnavailable, CatalogDamaged, OSError.
    """
    with database.condition.watched():
        path, facts = await database.backend.copy_to(
            folder, lambda connection: read_facts(connection, database.backend)
        )
    return CatalogCopy(path.name, facts)


async def examine_copy(path: Path) -> Mapping[str, int]:
    """Read all of a copy; returns the rows of each table. Raises: CopyDamaged, OSError."""
    if path.name != ROWS:
        from storage.catalog.sqlite import examine_file, read_file

        await examine_file(path)
        return await read_file(path, count_tables)
    from storage.catalog.postgres_copy import RowsFile

    return await RowsFile(path).count()


async def read_copy(path: Path) -> CatalogCopy:
    """What is known of a file that SQLite opens. Raises: CopyDamaged, CatalogUnavailable."""
    from storage.catalog.sqlite import SqliteBackend, examine_file, read_file

    await examine_file(path)
    backend = SqliteBackend(Address(f"{SQLITE}{path}"), 0.0)
    try:
        return CatalogCopy(path.name, await read_file(path, lambda opened: read_facts(opened, backend)))
    finally:
        await backend.close()
