"""Messages that an endpoint of webhooks has not taken yet, and when each is tried again."""

import sqlalchemy as sa
from alembic import op

revision = "1010"
down_revision = "1009"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _ascii(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("endpoint", _ascii(32), nullable=False),
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.Column("upload_id", _ascii(36)),
        sa.Column("behind_id", _ascii(36)),
        sa.Column("made_ms", _BIG, nullable=False),
        sa.Column("since_ms", _BIG, nullable=False),
        sa.Column("attempts", _BIG, nullable=False),
        sa.Column("next_ms", _BIG, nullable=False),
        sa.Column("tried_ms", _BIG),
        sa.Column("problem", sa.Text),
        sa.Column("given_up_ms", _BIG),
        sa.PrimaryKeyConstraint("endpoint", "seq"),
    )
    op.create_index(
        "webhook_deliveries_due", "webhook_deliveries", ["endpoint", "given_up_ms", "next_ms", "seq"]
    )
    op.create_index("webhook_deliveries_by_upload", "webhook_deliveries", ["endpoint", "upload_id", "seq"])
    op.create_index("webhook_deliveries_by_age", "webhook_deliveries", ["made_ms"])
