"""INSERT … ON CONFLICT, in the words of Postgres' dialect, which SQLite's understands, too."""

from typing import TYPE_CHECKING

from sqlalchemy import Table

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert


def insert(table: Table) -> "Insert":
    """The statement that inserts into a table, and can say what is done where a row is there already."""
    from sqlalchemy.dialects.postgresql import insert  # whoever only reads a file does not need the dialect

    return insert(table)
