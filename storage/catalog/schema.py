"""The schema of a catalog: read, compared with this program's, and brought up to date."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from storage.errors import CatalogTooNew, CatalogTooOld

SCHEMAS: tuple[str, ...] = ("1000",)  # oldest first; a test compares them with the migrations' folder
MIGRATIONS = Path(__file__).parent / "migrations"


def newest() -> str:
    """The schema that this program works with."""
    return SCHEMAS[-1]


def is_obsolete(found: str) -> bool:
    """Whether a development version wrote a catalog of this schema: no migration starts there."""
    return found < SCHEMAS[0]


def read(connection: Connection) -> str | None:
    """The schema of this catalog, None where there are no tables of ours yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def check_known(found: str | None, *, migrate: bool) -> None:
    """Raises: CatalogTooNew, and CatalogTooOld unless it may be migrated."""
    if found not in SCHEMAS:
        raise CatalogTooNew(
            f"The catalog's schema is {found}; this program knows schemas up to {newest()}. "
            "Update the program."
        )
    if not migrate:
        raise CatalogTooOld(
            f"The catalog's schema is {found}, and the migration to {newest()} is pending: the next start of "
            "a worker of this version copies the catalog and makes it. Older workers cannot start then."
        )


def check_newest(found: str | None) -> None:
    """Raises: CatalogTooNew where a newer program has migrated the catalog meanwhile."""
    if found != newest():
        raise CatalogTooNew(f"The catalog's schema is {found}, but this program's is {newest()}.")


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction of `connection`."""
    # Imported here because a start on a current catalog needs none of it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
