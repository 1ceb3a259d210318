"""Which database holds a catalog, and in which schema."""

import sqlite3

from storage.catalog import schema
from storage.catalog.database import versions_of
from storage.catalog.opening import Catalog
from tests.support.catalogs import ON_BOTH

pytestmark = ON_BOTH


async def test_a_catalog_tells_its_database_and_its_schema(catalog: Catalog, database_kind: str) -> None:
    found = await versions_of(catalog.database)

    assert found.schema == schema.newest()
    if database_kind == "sqlite":
        assert found.database == f"SQLite {sqlite3.sqlite_version}"
    else:
        assert found.database.partition(".")[0].removeprefix("PostgreSQL ").isdecimal()
