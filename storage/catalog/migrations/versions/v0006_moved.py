"""Marks that stay when a sweep has moved a file away, so that a writer who counted on it learns of it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("condemned", sa.Column("moved_ms", sa.Integer(), nullable=True))
