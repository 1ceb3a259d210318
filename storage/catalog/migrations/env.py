"""Alembic's entry: runs the migrations on the connection that `database` hands over."""

from alembic import context

from storage.catalog.schema import version_table
from storage.catalog.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table=version_table(connection),
    target_metadata=metadata,
    # SQLite cannot alter much in place; a migration that must, copies the table.
    render_as_batch=True,
)
context.run_migrations()
