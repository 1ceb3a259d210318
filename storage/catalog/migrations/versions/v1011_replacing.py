"""Uploads that take the place of others, and what became of the originals of deleted ones.

A worker of the version before, which may still be at work, leaves these columns as they are: an upload that
it makes replaces another once a newer worker makes it ready again.
"""

import sqlalchemy as sa
from alembic import op

revision = "1011"
down_revision = "1010"
branch_labels = None
depends_on = None

_ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("uploads", sa.Column("replaces", _ID))
    op.add_column("uploads", sa.Column("replaced_by", _ID))
    op.add_column("uploads", sa.Column("original_fate", sa.String(8)))
