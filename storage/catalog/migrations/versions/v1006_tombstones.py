"""Tombstones of ids that never had an upload, found by their age: they go once they are old."""

import sqlalchemy as sa
from alembic import op

revision = "1006"
down_revision = "1005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    unseen = sa.text("source IS NULL")
    op.create_index(
        "uploads_unseen", "uploads", ["source", "changed_ms"], sqlite_where=unseen, postgresql_where=unseen
    )
