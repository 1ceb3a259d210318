"""A catalog on Postgres is restored beside others in its database, by users who may not do everything."""

from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from scripts.postgres_server import PostgresServer
from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.making import make_copy
from storage.backups.restoring import CatalogRestore
from storage.catalog.address import Address
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import State
from storage.errors import CatalogUnavailable, CatalogUnfit, CopyRefused
from tests.support.catalogs import take, upload, upload_event, work
from tests.support.postgres import DROP_ALL, execute
from tests.support.restores import restoring

CANDIDATES = "SELECT nspname FROM pg_namespace WHERE starts_with(CAST(nspname AS text), 'media_restoring_')"
FORGET = "CREATE FUNCTION {0}.forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
FORGETS = "CREATE TRIGGER forgets BEFORE INSERT ON {0}.kv FOR EACH ROW EXECUTE FUNCTION {0}.forget()"
CUT_OFF = """
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND datname = current_database()
"""


@pytest.fixture
def database_kind() -> str:
    return "postgres"


@pytest.fixture
async def copy(catalog: Catalog, tmp_path: Path) -> BackupCopy:
    """A copy from before the one upload of the catalog was ready."""
    await take(catalog, upload_event(5))
    folder = BackupFolder(tmp_path / "backup")
    with folder.alone():
        made = await make_copy(catalog.database, folder, "1.2.3")
    await work(catalog)
    return made


async def run_sql(catalog: Catalog, statement: str) -> None:
    async with catalog.database.writing() as connection:
        await connection.execute(text(statement))


async def candidates(catalog: Catalog) -> list[str]:
    async with catalog.database.reading() as connection:
        return list((await connection.execute(text(CANDIDATES))).scalars())


async def restore_while(url: str, copy: BackupCopy, catalog: Catalog, *statements: str) -> None:
    """Restore while somebody runs these statements; where they say {0}, that is the candidate's schema."""
    async with restoring(url, copy):
        [schema] = await candidates(catalog)
        for statement in statements:
            await run_sql(catalog, statement.format(schema))


async def test_what_is_not_what_was_made_ready_does_not_become_the_catalog(
    catalog: Catalog, catalog_url: str, copy: BackupCopy
) -> None:
    with pytest.raises(CatalogUnavailable, match="has not the catalog that was made ready"):
        await restore_while(catalog_url, copy, catalog, FORGET, FORGETS)

    assert (await upload(catalog)).state is State.READY
    assert await candidates(catalog) == []


async def test_a_restore_that_has_lost_its_lock_replaces_nothing(
    catalog: Catalog, catalog_url: str, copy: BackupCopy
) -> None:
    with pytest.raises(CatalogUnavailable):
        await restore_while(catalog_url, copy, catalog, CUT_OFF)

    assert (await upload(catalog)).state is State.READY
    assert await candidates(catalog) == []


DROP_SOME = "DROP TABLE uploads, variants CASCADE"


@pytest.mark.parametrize("drop", [DROP_SOME, DROP_ALL])
async def test_a_copy_is_restored_where_tables_were_dropped_and_their_functions_are_left(
    catalog: Catalog, catalog_url: str, copy: BackupCopy, drop: str
) -> None:
    await run_sql(catalog, drop)

    await CatalogRestore(Address(catalog_url), copy).check()
    async with restoring(catalog_url, copy) as (done, _):
        pass

    async with open_catalog(catalog_url, create=False) as restored:
        assert (await upload(restored)).state is State.QUEUED
        await work(restored)
        assert await restored.reports.check_totals() == []
    assert (done.aside is None) == (drop == DROP_ALL)


TO_1009 = (
    "ALTER TABLE uploads DROP COLUMN replaces, DROP COLUMN replaced_by, DROP COLUMN original_fate",
    "DROP TABLE webhook_deliveries",
    "UPDATE media_alembic_version SET version_num = '1009'",
)


async def test_a_copy_of_an_older_schema_which_lacks_tables_is_restored(
    catalog: Catalog, catalog_url: str, tmp_path: Path
) -> None:
    await take(catalog, upload_event(5))
    for statement in TO_1009:
        await run_sql(catalog, statement)
    folder = BackupFolder(tmp_path / "old")
    with folder.alone():
        made = await make_copy(catalog.database, folder, "1.2.3")
    async with restoring(catalog_url, made):
        pass

    assert made.manifest.schema == "1009"
    async with open_catalog(catalog_url, create=False) as restored:
        assert (await upload(restored)).state is State.QUEUED
        assert await restored.webhooks.waiting(1) == []


async def test_a_function_of_another_program_is_named_before_anything_is_restored(
    catalog: Catalog, catalog_url: str, copy: BackupCopy
) -> None:
    await run_sql(catalog, DROP_ALL)
    await run_sql(
        catalog, "CREATE OR REPLACE FUNCTION wait_for_seq() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"
    )

    with pytest.raises(CatalogUnfit, match=r"it has a function wait_for_seq\(\)"):
        await CatalogRestore(Address(catalog_url), copy).check()


async def test_what_a_killed_restore_has_left_goes_and_what_others_have_stays(
    catalog: Catalog, catalog_url: str, copy: BackupCopy
) -> None:
    async with restoring(catalog_url, copy):
        [mine] = await candidates(catalog)
    left, theirs = f"{mine[:-16]}{'0' * 16}", f"media_restoring_{'0' * 12}_{'0' * 16}"
    await run_sql(catalog, f"CREATE SCHEMA {left}")
    await run_sql(catalog, f"CREATE SCHEMA {theirs}")

    async with restoring(catalog_url, copy, "20261129T120001"):
        pass

    assert await candidates(catalog) == [theirs]


GRANTS = {
    "CREATE ON DATABASE {}": "GRANT CREATE ON DATABASE {} TO",
    "CREATE ON SCHEMA public": "GRANT CREATE ON SCHEMA public TO",
    "ALL ON SCHEMA public": "GRANT USAGE, CREATE ON SCHEMA public TO",
}


@pytest.mark.parametrize("right", GRANTS)
async def test_a_user_who_may_not_restore_is_told_what_to_grant_before_a_row_is_copied(
    postgres_server: PostgresServer, catalog: Catalog, catalog_url: str, copy: BackupCopy, right: str
) -> None:
    url = make_url(catalog_url).set(username="re-storer", password="secret")
    database, role = str(url.database), '"re-storer"'
    await execute(postgres_server, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    for statement in ("GRANT CREATE ON DATABASE {}", "GRANT ALL ON SCHEMA public"):
        await execute(postgres_server, f"{statement.format(database)} TO {role}", database)
    theirs = CatalogRestore(Address(url.render_as_string(hide_password=False)), copy)

    await theirs.check()
    await execute(postgres_server, "REVOKE ALL ON SCHEMA public FROM public", database)
    await execute(postgres_server, f"REVOKE {right.format(database)} FROM {role}", database)
    with pytest.raises(CopyRefused) as refused:
        await theirs.check()

    assert f": {GRANTS[right].format(database)} {role}" in str(refused.value)
    await execute(postgres_server, f"DROP OWNED BY {role}", database)
    await execute(postgres_server, f"DROP ROLE {role}")
    await execute(postgres_server, "GRANT USAGE ON SCHEMA public TO public", database)
