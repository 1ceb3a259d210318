"""What is shown while a picture loads: the ThumbHash of each upload, or its BlurHash.

Uploads of before have none until their pictures are decoded again.
"""

import sqlalchemy as sa
from alembic import op

revision = "1004"
down_revision = "1003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("thumbhash", sa.LargeBinary()))
    op.add_column("uploads", sa.Column("blurhash", sa.String(32)))
