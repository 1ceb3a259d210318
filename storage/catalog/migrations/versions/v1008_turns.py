"""Uploads in the order in which they wait, parked or on jobs, and what owners have used lately."""

import sqlalchemy as sa
from alembic import op

revision = "1008"
down_revision = "1007"
branch_labels = None
depends_on = None

_BELOW = "substr(source, 9)"  # behind `uploads/`
_OWNER = {
    "sqlite": f"coalesce(owner, substr(source, 9, max(instr({_BELOW}, '/') - 1, 0)), '')",
    "postgresql": f"coalesce(owner, substr(source, 9, greatest(strpos({_BELOW}, '/') - 1, 0)), '')",
}
# SQLite makes a table of a list of three, each time.
_JOB = "CASE state WHEN 'queued' THEN job_id WHEN 'processing' THEN job_id WHEN 'deleting' THEN job_id END"
_IS_PARKED = f"{_JOB} = ''"
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    owner = _OWNER[op.get_bind().dialect.name]
    op.execute("DROP INDEX uploads_parked")
    op.execute(f"CREATE INDEX uploads_parked ON uploads ({owner}, queued_ms, number) WHERE {_IS_PARKED}")
    op.execute(f"CREATE INDEX uploads_parked_by_age ON uploads (queued_ms, number) WHERE {_IS_PARKED}")
    op.execute(f"CREATE INDEX uploads_on_jobs ON uploads (changed_ms, id) WHERE {_JOB} <> ''")
    op.create_table(
        "owner_uses",
        sa.Column("owner", _BYTEWISE, nullable=False),
        sa.Column("slot", _BIG, autoincrement=False, nullable=False),
        sa.Column("used_ms", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("owner", "slot"),
    )
    op.create_index("owner_uses_by_slot", "owner_uses", ["slot"])
