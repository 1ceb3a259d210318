"""What an HTTP server asks for: whose an upload is, keyset pages of uploads, and the keys of its clients.

The owner of an upload and the upload of a message are expressions with an index, so that rows need no value
for them: a worker of the version before, which may still be at work, writes none.
"""

import sqlalchemy as sa
from alembic import op

revision = "1002"
down_revision = "1001"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_BELOW = "substr(source, 9)"  # behind `uploads/`
_OWNER = {
    "sqlite": f"coalesce(owner, substr(source, 9, max(instr({_BELOW}, '/') - 1, 0)), '')",
    "postgresql": f"coalesce(owner, substr(source, 9, greatest(strpos({_BELOW}, '/') - 1, 0)), '')",
}
_ABOUT = {
    "sqlite": 'substr(body, instr(substr(body, 1, 40), \',"id":"\') + 7, 36)',
    "postgresql": 'substr(body, strpos(substr(body, 1, 40), \',"id":"\') + 7, 36)',
}


def _ascii(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _index(name: str, column: str, where: str) -> None:
    """Make an index of some uploads, in the order of a list."""
    condition, columns = sa.text(where), [column, "changed_ms", "id"]
    op.create_index(name, "uploads", columns, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    op.add_column("uploads", sa.Column("owner", _ascii(64)))
    op.create_index("uploads_by_change", "uploads", ["changed_ms", "id"])
    op.drop_index("uploads_by_state", "uploads")
    op.create_index("uploads_by_state", "uploads", ["state", "changed_ms", "id"])
    _index("uploads_by_error", "error_code", "error_code IS NOT NULL")
    _index("uploads_by_recipe", "recipe", "recipe <> 'default'")
    # Not as SQLAlchemy's text, which takes a colon for a parameter.
    connection = op.get_bind()
    owner, about = _OWNER[connection.dialect.name], _ABOUT[connection.dialect.name]
    connection.exec_driver_sql(f"CREATE INDEX uploads_by_owner ON uploads ({owner}, changed_ms, id)")
    connection.exec_driver_sql(f"CREATE INDEX outbox_by_upload ON outbox ({about}, seq)")
    op.create_table(
        "http_keys",
        sa.Column("name", _ascii(32), nullable=False),
        sa.Column("sha256", _ascii(64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("owner", _ascii(64), nullable=True),
        sa.Column("prefix", _BYTEWISE, nullable=True),
        sa.Column("made_ms", _BIG, nullable=False),
        sa.Column("revoked_ms", _BIG, nullable=True),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("sha256"),
    )
