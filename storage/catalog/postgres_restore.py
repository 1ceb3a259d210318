"""A catalog in Postgres is filled from a file of rows in a schema of its own, and takes the place of the old
one in one transaction; that stays in a schema of its own, too.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import bindparam, text

from storage.catalog import postgres_functions, schema
from storage.catalog.postgres_copy import RowsFile
from storage.catalog.restored import RESTORED
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import metadata, totals
from storage.errors import CatalogUnavailable, CopyDamaged, CopyRefused

_RESTORING = "media_restoring_"
_ASIDE = "media_before_restore_"
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


_MAY = text("""
    SELECT has_database_privilege(current_database(), 'CREATE') AS makes_schemas,
        has_schema_privilege(current_schema(), 'CREATE') AS makes_tables, quote_ident(current_user) AS user,
        quote_ident(current_database()) AS database, quote_ident(current_schema()) AS schema
""")
_BEGINNING_WITH = text("SELECT nspname FROM pg_namespace WHERE starts_with(CAST(nspname AS text), :prefix)")


async def check_rights(connection: AsyncConnection, name: str) -> None:
    """Raises: CopyRefused where this user may make no schema in the database, or no table of a catalog."""
    found = (await connection.execute(_MAY)).one()
    if found.schema is None:
        raise CopyRefused(
            f"the user {found.user} may use no schema of its search_path in the database of {name}: "
            f"GRANT USAGE, CREATE ON SCHEMA public TO {found.user}, or name another in MEDIA_CATALOG_URL"
        )
    missing = {
        f"DATABASE {found.database}": found.makes_schemas,
        f"SCHEMA {found.schema}": found.makes_tables,
    }
    if grants := [f"GRANT CREATE ON {what} TO {found.user}" for what, has in missing.items() if not has]:
        raise CopyRefused(
            f"a restore makes a schema in the database of {name}, and moves tables to {found.schema}, "
            f"which its user may not: {'; '.join(grants)}"
        )


async def place_of(connection: AsyncConnection) -> str:
    """The schema in which the catalog is, or is to be."""
    return str((await connection.exec_driver_sql("SELECT current_schema()")).scalar_one())


def name_candidate(place: str, nonce: str) -> str:
    """The schema of one restore, apart from those of other catalogs in the same database."""
    return f"{_prefix(place)}{nonce}"


def _prefix(place: str) -> str:
    return f"{_RESTORING}{sha256(place.encode()).hexdigest()[:12]}_"


async def make_schema(connection: AsyncConnection, place: str, candidate: str) -> None:
    """An empty schema for the catalog that is to come; what killed restores of it have left goes."""
    left = await connection.execute(_BEGINNING_WITH, {"prefix": _prefix(place)})
    for name in left.scalars().all():
        await drop_schema(connection, _text(name))
    await connection.exec_driver_sql(f"CREATE SCHEMA {candidate}")


async def drop_schema(connection: AsyncConnection, candidate: str) -> None:
    """Remove a candidate, if it is there."""
    await connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {candidate} CASCADE")


async def fill(
    connection: AsyncConnection, file: RowsFile, of_schema: str, rows: Mapping[str, int], counted: str
) -> None:
    """Make the tables of that schema, and fill them with what the file has. Raises: CopyDamaged, OSError."""
    await connection.run_sync(schema.upgrade, of_schema)
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await _trigger(connection, "DISABLE")
    place = {"place": await place_of(connection), "names": _TABLES}
    made = {_text(row.relname) for row in (await connection.execute(_RELATIONS, place)).all()}
    # The migrations have rows of their own in none; an older one may. That schema may have fewer tables.
    for table in [name for name in reversed(_TABLES) if name in made]:
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
    for table in postgres_functions.COUNTED:
        await connection.exec_driver_sql(f"ALTER TABLE {table} {verb} TRIGGER USER")


async def replace(
    connection: AsyncConnection, name: str, candidate: str, nonce: str, moment: str
) -> str | None:
    """Let the candidate be the catalog `name`; returns the schema in which the old one is, if there was one.

    Raises: CatalogUnavailable where the candidate is not the one that was marked with that `nonce`,
    CatalogUnfit where another program's function is in its way.
    """
    place = await place_of(connection)
    await connection.execute(text("SELECT set_config('search_path', :place, true)"), {"place": place})
    await _check(connection, candidate, nonce)
    old = (await connection.execute(_RELATIONS, {"place": place, "names": _NAMES})).all()
    functions = (await connection.execute(_FUNCTIONS, {"place": place, "names": _NAMES})).scalars().all()
    aside = await _free_name(connection, f"{_ASIDE}{moment.lower()}") if old else None
    if aside is not None:
        await connection.exec_driver_sql(f"CREATE SCHEMA {aside}")
        await _move(connection, old, functions, place, aside)
    await postgres_functions.drop_left(connection, name)
    new = (await connection.execute(_ALL_RELATIONS, {"place": candidate})).all()
    names = [row.relname for row in new]
    made = (await connection.execute(_FUNCTIONS, {"place": candidate, "names": names})).scalars().all()
    await _move(connection, new, made, candidate, place)
    await connection.exec_driver_sql(f"DROP SCHEMA {candidate}")
    return aside


async def _check(connection: AsyncConnection, candidate: str, nonce: str) -> None:
    there = (await connection.execute(_ALL_RELATIONS, {"place": candidate})).all()
    found = None
    if "kv" in {_text(row.relname) for row in there}:
        query = text(f"SELECT CAST(value AS json) ->> 'nonce' FROM {candidate}.kv WHERE name = :name")  # noqa: S608
        found = (await connection.execute(query, {"name": RESTORED})).scalar_one_or_none()
    if found != nonce:
        raise CatalogUnavailable(
            f"the schema {candidate} has not the catalog that was made ready: somebody else has changed it"
        )


async def _free_name(connection: AsyncConnection, wanted: str) -> str:
    """A name that no schema has: what an earlier restore has kept stays."""
    found = (await connection.execute(_BEGINNING_WITH, {"prefix": wanted})).scalars().all()
    taken = {_text(name) for name in found}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


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
