"""The schema of a catalog: read, compared with this program's, and brought up to date."""

import re
from pathlib import Path
from typing import Any

from sqlalchemy import Boolean, Connection, inspect, literal, select, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from storage.catalog.tables import metadata, totals_delta
from storage.errors import CatalogTooNew, CatalogTooOld, CatalogUnfit
from storage.loading import without

# Oldest first; a test compares them with the migrations' folder.
SCHEMAS: tuple[str, ...] = (
    *("1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009"),
    *("1010", "1011"),
)
MIGRATIONS = Path(__file__).parent / "migrations"


class is_table(FunctionElement[bool]):  # noqa: N801 (a function of SQL)
    """Whether there is a table of that name; an inspector would make a statement for that each time."""

    type = Boolean()
    inherit_cache = True


@compiles(is_table)
def _is_table(element: is_table, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    name = compiler.process(element.clauses, **options)
    return f"(SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = {name})"  # noqa: S608


def newest() -> str:
    """The schema that this program works with."""
    return SCHEMAS[-1]


def is_obsolete(found: str) -> bool:
    """Whether a development version wrote a catalog of this schema: no migration starts there."""
    return found < SCHEMAS[0]


def version_table(connection: Connection) -> str:
    """The table with the schema's name: on a server other programs may have Alembic's usual one."""
    return "alembic_version" if connection.dialect.name == "sqlite" else "media_alembic_version"


def read(connection: Connection) -> str | None:
    """The schema of this catalog, None where there are no tables of ours yet."""
    name = version_table(connection)
    if not connection.scalar(select(is_table(literal(name)))):
        return None
    return connection.execute(text(f"SELECT version_num FROM {name}")).scalar()  # noqa: S608 (our own name)


def check_ours(found: str, name: str) -> None:
    """Raises: CatalogUnfit where another program wrote the schema that was `found` in the catalog `name`."""
    if not re.fullmatch(r"\d{4}", found):
        raise _of_another(name, f"its schema is {found}")


def check_free(connection: Connection, name: str) -> None:
    """Raises: CatalogUnfit where a table that is to be made is there already."""
    inspector = inspect(connection)
    there = {*inspector.get_table_names(), *inspector.get_view_names()}
    if taken := sorted(there & {*metadata.tables, totals_delta.name}):
        raise _of_another(name, f"it has a table {taken[0]}")


def _of_another(name: str, why: str) -> CatalogUnfit:
    return CatalogUnfit(f"the database {name} belongs to another program ({why}): create one for the catalog")


def check_known(found: str | None, *, migrate: bool, done_by: str) -> None:
    """Raises: CatalogTooNew, and CatalogTooOld unless it may be migrated, with what it is `done_by`."""
    if found not in SCHEMAS:
        raise CatalogTooNew(
            f"The catalog's schema is {found}; this program knows schemas up to {newest()}. "
            "Update the program, or go back to the copy that was kept: media migrate --back."
        )
    if not migrate:
        raise CatalogTooOld(
            f"The catalog's schema is {found}, and the migration to {newest()} is pending: {done_by}. "
            "Older workers cannot start then."
        )


def pending(found: str, done_by: str) -> str | None:
    """What has to be done before this program can work with a catalog of that schema; None: nothing."""
    try:
        if found != newest():
            check_known(found, migrate=False, done_by=done_by)
    except (CatalogTooNew, CatalogTooOld) as error:
        return str(error)
    return None


def check_newest(found: str | None) -> None:
    """Raises: CatalogTooNew where a newer program has migrated the catalog meanwhile."""
    if found != newest():
        raise CatalogTooNew(f"The catalog's schema is {found}, but this program's is {newest()}.")


def upgrade(connection: Connection, to: str = "head") -> None:
    """Run the migrations that are missing up to one, in the transaction of `connection`."""
    # Imported here because a start on a current catalog needs none of it.
    with without("pygments"):  # it would colour the templates of new migrations
        from alembic import command
        from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
