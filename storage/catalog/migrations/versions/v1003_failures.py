"""What a console asks for: failed uploads of a code, or of an owner, and those put off, newest first.

Mostly they are few; where they are many, or many wait that have met the same error, they are found as fast.
"""

import sqlalchemy as sa
from alembic import op

revision = "1003"
down_revision = "1002"
branch_labels = None
depends_on = None

_BELOW = "substr(source, 9)"  # behind `uploads/`
_OWNER = {
    "sqlite": f"coalesce(owner, substr(source, 9, max(instr({_BELOW}, '/') - 1, 0)), '')",
    "postgresql": f"coalesce(owner, substr(source, 9, greatest(strpos({_BELOW}, '/') - 1, 0)), '')",
}


def upgrade() -> None:
    is_failed = sa.text("state = 'failed'")
    columns = ["state", "error_code", "changed_ms", "id"]
    op.create_index("uploads_failed", "uploads", columns, sqlite_where=is_failed, postgresql_where=is_failed)
    owner = _OWNER[op.get_bind().dialect.name]
    for name, first in {"by_owner": owner, "by_owner_and_code": f"{owner}, error_code"}.items():
        op.execute(
            f"CREATE INDEX uploads_failed_{name} ON uploads (state, {first}, changed_ms, id) "
            "WHERE state = 'failed'"
        )
    is_put_off = sa.text("CASE WHEN state IN ('queued', 'deleting') THEN error_code END IS NOT NULL")
    order = ["changed_ms", "id"]
    op.create_index("uploads_put_off", "uploads", order, sqlite_where=is_put_off, postgresql_where=is_put_off)
