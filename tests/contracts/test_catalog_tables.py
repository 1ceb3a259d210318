"""A catalog that has lost a table says so, of whatever kind, until the table is back."""

import pytest

from storage.catalog.opening import Catalog
from storage.catalog.tables import metadata
from storage.errors import CatalogUnavailable
from tests.support.catalogs import ON_BOTH, statements

pytestmark = ON_BOTH


async def run_sql(catalog: Catalog, statement: str) -> None:
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql(statement)


async def test_a_table_that_is_gone_is_a_problem_of_the_catalog_until_it_is_back(catalog: Catalog) -> None:
    assert await catalog.database.problem() is None
    for lost in ("uploads", "variants", "http_keys"):
        await run_sql(catalog, f"ALTER TABLE {lost} RENAME TO away")
        with pytest.raises(CatalogUnavailable, match=f"cannot be used .*{lost}.*media restore"):
            await catalog.database.problem()
        await run_sql(catalog, f"ALTER TABLE away RENAME TO {lost}")

        assert await catalog.database.problem() is None


async def test_tables_that_are_dropped_are_a_problem_of_the_catalog(
    catalog: Catalog, database_kind: str
) -> None:
    cascade = "CASCADE" if database_kind == "postgres" else ""
    for lost in ("variants", "uploads"):
        await run_sql(catalog, f"DROP TABLE {lost} {cascade}")

    with pytest.raises(CatalogUnavailable, match="gone"):
        await catalog.database.check_tables()


async def test_one_statement_looks_for_every_table(catalog: Catalog) -> None:
    with statements(catalog) as seen:
        await catalog.database.check_tables()

    [asked] = [one for one in seen if "EXISTS" in one]
    assert all(f"FROM {table}" in asked for table in metadata.tables)
