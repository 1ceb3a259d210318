"""Functions that are left of dropped tables: those of catalogs are made anew, those of others stay."""

import pytest
from sqlalchemy import make_url, text

from scripts.postgres_server import PostgresServer
from storage.catalog.database import check_makeable
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.postgres_functions import SIGNS
from storage.catalog.records import State
from storage.errors import CatalogUnfit
from tests.support.catalogs import take, upload_event
from tests.support.postgres import DROP_ALL, execute

FUNCTIONS = text("SELECT proname FROM pg_proc WHERE pronamespace = CAST('public' AS regnamespace)")
OF_NO_TABLE = "CREATE FUNCTION count_original() RETURNS int LANGUAGE sql AS 'SELECT 1'"
LIKE_OURS = """CREATE FUNCTION count_original() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO totals_delta SELECT 1; END'"""
OF_THEIRS = "CREATE TRIGGER counts AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION count_original()"


@pytest.fixture
def database_kind() -> str:
    return "postgres"


async def functions(catalog: Catalog) -> set[str]:
    async with catalog.database.reading() as connection:
        return {*(await connection.execute(FUNCTIONS)).scalars()}


async def test_functions_that_are_left_where_all_tables_were_dropped_are_made_anew(
    postgres_url: str,
) -> None:
    async with open_catalog(postgres_url) as catalog:
        assert await functions(catalog) == {*SIGNS}
        async with catalog.database.writing() as connection:
            await connection.exec_driver_sql(DROP_ALL)
        assert await functions(catalog) == {*SIGNS}

    await check_makeable(postgres_url)
    async with open_catalog(postgres_url) as made:
        await take(made, upload_event(5))
        assert await made.reports.check_totals() == []
        assert (await made.reports.states())[State.QUEUED] == 1


@pytest.mark.parametrize("statements", [[OF_NO_TABLE], [LIKE_OURS, "CREATE TABLE t (id int)", OF_THEIRS]])
async def test_no_catalog_is_made_beside_a_function_of_another_program_which_stays(
    postgres_server: PostgresServer, postgres_url: str, statements: list[str]
) -> None:
    for statement in statements:
        await execute(postgres_server, statement, str(make_url(postgres_url).database))

    for _ in range(2):
        with pytest.raises(CatalogUnfit, match=r"another program \(it has a function count_original\(\)\)"):
            await check_makeable(postgres_url)
        with pytest.raises(CatalogUnfit, match="create one for the catalog"):
            async with open_catalog(postgres_url):
                pass


@pytest.mark.parametrize("left", ["CREATE TABLE totals_delta (id int)", "CREATE VIEW variants AS SELECT 1"])
async def test_no_catalog_is_made_beside_any_table_or_view_of_its_names(
    postgres_server: PostgresServer, postgres_url: str, left: str
) -> None:
    await execute(postgres_server, left, str(make_url(postgres_url).database))

    with pytest.raises(CatalogUnfit, match="it has a table"):
        await check_makeable(postgres_url)
