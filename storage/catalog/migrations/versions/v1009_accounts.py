"""The accounts of apps' owners: in whose turn uploads are done that wait without a job."""

import sqlalchemy as sa
from alembic import op

revision = "1009"
down_revision = "1008"
branch_labels = None
depends_on = None

_BELOW = "substr(source, 9)"  # behind `uploads/`
_ACCOUNT = {
    "sqlite": f"coalesce(account, owner, substr(source, 9, max(instr({_BELOW}, '/') - 1, 0)), '')",
    "postgresql": f"coalesce(account, owner, substr(source, 9, greatest(strpos({_BELOW}, '/') - 1, 0)), '')",
}
_JOB = "CASE state WHEN 'queued' THEN job_id WHEN 'processing' THEN job_id WHEN 'deleting' THEN job_id END"
_IS_PARKED = f"{_JOB} = ''"
_BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("uploads", sa.Column("account", _BYTEWISE))
    account = _ACCOUNT[op.get_bind().dialect.name]
    op.execute("DROP INDEX uploads_parked")
    op.execute(f"CREATE INDEX uploads_parked ON uploads ({account}, queued_ms, number) WHERE {_IS_PARKED}")
