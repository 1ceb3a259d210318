"""Contents that killed their decoder."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "poison_contents",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("made_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "version"),
    )
    op.create_index("poison_by_age", "poison_contents", ["made_ms"], unique=False)
