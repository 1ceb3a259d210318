"""An index on marks: those that are open and those that are old are looked for at every tick."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("condemned_by_age", "condemned", ["moved_ms"])
