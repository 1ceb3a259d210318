"""A catalog in Postgres is filled from a file of rows in a schema of its own, and takes the place of the old
one in one transaction; that stays in a schema of its own, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog import schema
from storage.catalog.postgres_copy import RowsFile
from storage.catalog.tables import metadata, totals
from storage.errors import CopyDamaged

CANDIDATE = "media_restoring"
_COUNTED_BY_TRIGGERS = ("uploads", "variants", "dead_letters", "outbox")
_TABLES = [table.name for table in metadata.sorted_tables if table is not totals]
_NAMES = [*_TABLES, "totals", "totals_delta", "media_alembic_version"]
_RELATIONS = text("""
    SELECT relname, relkind FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = :place AND relkind IN ('r', 'v') AND relname IN :names
""").bindparams(bindparam("names", expanding=True))
_ALL_RELATIONS = text("""
    SELECT relname, relkind FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = :place AND relkind IN ('r', 'v')
""")
_FUNCTIONS = text("""
    SELECT DISTINCT proname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = :place AND relname IN :names AND NOT tgisinternal
""").bindparams(bindparam("names", expanding=True))


async def make_schema(connection: AsyncConnection) -> None:
    """An empty schema for the catalog that is to come; what a killed restore has left goes."""
    await connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {CANDIDATE} CASCADE")
    await connection.exec_driver_sql(f"CREATE SCHEMA {CANDIDATE}")


async def fill(
    connection: AsyncConnection, file: RowsFile, of_schema: str, rows: Mapping[str, int], counted: str
) -> None:
    """Make the tables of that schema, and fill them with what the file has. Raises: CopyDamaged, OSError."""
    await connection.run_sync(schema.upgrade, of_schema)
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await _trigger(connection, "DISABLE")
    for table in reversed(_TABLES):  # the migrations have rows of their own in none; an older one may
        await connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 (our own names)
    copied: dict[str, int] = {}
    async for table, columns, parts in file.tables():
        if table not in _TABLES:
            raise CopyDamaged(f"the copy has rows of a table {table}, which no catalog has")
        said = await driver.copy_to_table(table, source=parts, columns=columns, format="text")
        copied[table] = int(said.rpartition(" ")[2])
    if copied != dict(rows):
        raise CopyDamaged("the copy has other numbers of rows than its manifest")
    await _trigger(connection, "ENABLE")
    await connection.exec_driver_sql("DELETE FROM totals_delta")
    await connection.exec_driver_sql(f"INSERT INTO totals_delta {counted}")


async def _trigger(connection: AsyncConnection, verb: str) -> None:
    for table in _COUNTED_BY_TRIGGERS:
        await connection.exec_driver_sql(f"ALTER TABLE {table} {verb} TRIGGER USER")


async def replace(connection: AsyncConnection, aside: str) -> bool:
    """Let the candidate be the catalog; whether there was one, which is in the schema `aside` by then."""
    place = str((await connection.exec_driver_sql("SELECT current_schema()")).scalar_one())
    await connection.execute(text("SELECT set_config('search_path', :place, true)"), {"place": place})
    old = (await connection.execute(_RELATIONS, {"place": place, "names": _NAMES})).all()
    functions = (await connection.execute(_FUNCTIONS, {"place": place, "names": _NAMES})).scalars().all()
    if old:
        await connection.exec_driver_sql(f"CREATE SCHEMA {aside}")
        await _move(connection, old, functions, place, aside)
    new = (await connection.execute(_ALL_RELATIONS, {"place": CANDIDATE})).all()
    names = [row.relname for row in new]
    made = (await connection.execute(_FUNCTIONS, {"place": CANDIDATE, "names": names})).scalars().all()
    await _move(connection, new, made, CANDIDATE, place)
    await connection.exec_driver_sql(f"DROP SCHEMA {CANDIDATE}")
    return bool(old)


async def _move(
    connection: AsyncConnection, relations: Sequence[Any], functions: Sequence[str], place: str, to: str
) -> None:
    for name, kind in relations:
        what = "VIEW" if _text(kind) == "v" else "TABLE"
        await connection.exec_driver_sql(f'ALTER {what} "{place}"."{name}" SET SCHEMA "{to}"')
    for name in functions:
        await connection.exec_driver_sql(f'ALTER FUNCTION "{place}"."{name}"() SET SCHEMA "{to}"')


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
