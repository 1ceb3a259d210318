"""Uploads that wait without a job, by owner and in the order in which they came: mostly there are none."""

from alembic import op

revision = "1007"
down_revision = "1006"
branch_labels = None
depends_on = None

_BELOW = "substr(source, 9)"  # behind `uploads/`
_OWNER = {
    "sqlite": f"coalesce(owner, substr(source, 9, max(instr({_BELOW}, '/') - 1, 0)), '')",
    "postgresql": f"coalesce(owner, substr(source, 9, greatest(strpos({_BELOW}, '/') - 1, 0)), '')",
}
_IS_PARKED = "CASE WHEN state IN ('queued', 'deleting') THEN job_id END = ''"


def upgrade() -> None:
    owner = _OWNER[op.get_bind().dialect.name]
    op.execute(f"CREATE INDEX uploads_parked ON uploads ({owner}, number) WHERE {_IS_PARKED}")
