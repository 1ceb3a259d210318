"""What is shown while a picture loads: the ThumbHash of each upload, or its BlurHash.

Uploads of before have none until their pictures are decoded again. A worker of the version before, which may
still be at work, replaces the picture of an upload and leaves these columns as they are: so the row says of
which content they are.

A picture may be one of which none can be made any more. Then the row says what has tried.
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
    op.add_column("uploads", sa.Column("placeholder_of", sa.String(8)))
    op.add_column("uploads", sa.Column("placeholder_tried", sa.String(32)))
