"""Alembic's entry: runs the migrations on the connection that `database` hands over."""

from alembic import context

from storage.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter much in place; a migration that must, copies the table.
    render_as_batch=True,
)
context.run_migrations()
