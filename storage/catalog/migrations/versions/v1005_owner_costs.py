"""What the pictures of each owner cost, hour by hour."""

import sqlalchemy as sa
from alembic import op

revision = "1005"
down_revision = "1004"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "owner_costs",
        sa.Column("owner", _BYTEWISE, nullable=False),
        sa.Column("hour", _BIG, autoincrement=False, nullable=False),
        sa.Column("cpu_ms", _BIG, nullable=False),
        sa.Column("uploads", _BIG, nullable=False),
        sa.Column("bytes", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("owner", "hour"),
    )
    op.create_index("owner_costs_by_hour", "owner_costs", ["hour"])
