"""Uploads that were found in the storage, and not announced by an app."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("adopted", sa.Boolean(), nullable=False, server_default=sa.text("0")))
