"""The epoch of a refused event: another epoch of the stream may have an entry with the same ID."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TRIGGERS = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'dead_letters'"
_NUMBER = "SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'"
_COLUMNS = "id, stream_id, code, message, body, received_ms"


def upgrade() -> None:
    """Copy the table, which SQLite cannot alter so, with its triggers and the numbers that it gave."""
    connection = op.get_bind()
    triggers = connection.exec_driver_sql(_TRIGGERS).scalars().all()
    given = connection.exec_driver_sql(_NUMBER).scalar_one_or_none()
    op.create_table(
        "dead_letters_anew",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("stream_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("epoch", "stream_id"),
        sqlite_autoincrement=True,
    )
    copied = f"INSERT INTO dead_letters_anew ({_COLUMNS}) SELECT {_COLUMNS} FROM dead_letters"  # noqa: S608
    connection.exec_driver_sql(copied)
    op.drop_table("dead_letters")
    op.rename_table("dead_letters_anew", "dead_letters")
    for trigger in triggers:
        connection.exec_driver_sql(trigger)
    if given is not None:
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'dead_letters'")
        connection.exec_driver_sql("INSERT INTO sqlite_sequence VALUES ('dead_letters', ?)", (given,))
