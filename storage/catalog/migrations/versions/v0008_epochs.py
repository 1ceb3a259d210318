"""The epoch of an upload's newest event: IDs of a stream that began anew lie anywhere."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NEWEST = "SELECT event_ms, event_n FROM uploads ORDER BY event_ms DESC, event_n DESC LIMIT 1"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("event_epoch", sa.Integer(), nullable=False, server_default="0"))
    newest = op.get_bind().execute(sa.text(_NEWEST)).first()
    if newest is not None and newest.event_ms > 0:
        row = {"name": "stream", "value": json.dumps({"epoch": 0, "newest": list(newest)})}
        op.get_bind().execute(sa.text("INSERT INTO kv (name, value) VALUES (:name, :value)"), row)
