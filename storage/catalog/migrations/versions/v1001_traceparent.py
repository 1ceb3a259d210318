"""The trace in which an app asked for an upload, kept with its row and with each message about it.

A message has it in a column of its own, not in its body: a worker of the version before, which may still be
at work, reads bodies and knows no such field.
"""

import sqlalchemy as sa
from alembic import op

revision = "1001"
down_revision = "1000"
branch_labels = None
depends_on = None

_ASCII = sa.String(55).with_variant(sa.String(55, collation="C"), "postgresql")


def upgrade() -> None:
    for table in ("uploads", "outbox"):
        op.add_column(table, sa.Column("traceparent", _ASCII))
