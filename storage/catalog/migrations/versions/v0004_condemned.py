"""Keys that a sweep is moving away, so that no row may take them meanwhile."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "condemned",
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("made_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
