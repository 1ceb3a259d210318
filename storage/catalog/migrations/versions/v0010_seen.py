"""How an original was when its upload was put off because of it: missing, or so many bytes of such an age."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("seen", sa.Text()))
