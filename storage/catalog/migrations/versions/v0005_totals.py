"""Totals that every writing transaction keeps up, by triggers, and a snapshot of them for each day."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


@dataclass(frozen=True)
class Counted:
    """Rows of `table` that count: under what, name, detail and day, with how many bytes.

    `when` says whether a row counts at all; a change of anything but `columns` makes no difference, and
    one of those only if it changes what is counted.
    """

    table: str
    columns: Sequence[str]
    what: str
    name: str
    detail: str = "''"
    day: str = "0"
    bytes: str = "0"
    when: str = "1"


_COUNTED = {
    "upload": Counted(
        "uploads",
        ["state", "error_code"],
        "'upload'",
        # A claim moves one upload of a few from queued to processing and back: whoever reads counts those,
        # and the transaction of a claim writes no totals.
        "iif({row}.state IN ('queued', 'processing'), 'waiting', {row}.state)",
        "coalesce({row}.error_code, '')",
    ),
    "original": Counted(
        "uploads",
        ["bytes", "format"],
        "'original'",
        "coalesce({row}.format, '')",
        bytes="{row}.bytes",
        when="{row}.bytes IS NOT NULL",
    ),
    "variant": Counted(
        "variants",
        ["superseded_ms", "bytes", "name", "key", "made_ms"],
        "iif({row}.superseded_ms IS NULL, 'variant', 'superseded')",
        "{row}.name",
        "substr({row}.key, instr({row}.key, '.') + 1)",  # the key's ending says the format
        "{row}.made_ms / 86400000",
        "{row}.bytes",
    ),
    "letter": Counted("dead_letters", ["code"], "'letter'", "{row}.code", bytes="length({row}.body)"),
}


def upgrade() -> None:
    op.create_table(
        "totals",
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("what", "name", "detail", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "snapshots",
        sa.Column("day", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("time_ms", sa.Integer(), nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("originals", sa.Integer(), nullable=False),
        sa.Column("original_bytes", sa.Integer(), nullable=False),
        sa.Column("variants", sa.Integer(), nullable=False),
        sa.Column("variant_bytes", sa.Integer(), nullable=False),
        sa.Column("superseded", sa.Integer(), nullable=False),
        sa.Column("superseded_bytes", sa.Integer(), nullable=False),
        sa.Column("free_bytes", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("day"),
    )
    # The totals answer what this index was for; keeping it up cost three entries an upload.
    op.drop_index("variants_totals", "variants")
    op.create_index(
        "uploads_by_bytes", "uploads", ["bytes"], unique=False, sqlite_where=sa.text("bytes IS NOT NULL")
    )
    for name, counted in _COUNTED.items():
        op.execute(_fill(counted))
        for statement in _triggers(name, counted):
            op.execute(statement)


def _fill(counted: Counted) -> str:
    fields = "{what}, {name}, {detail}, {day}, count(*), sum({bytes}) FROM {table} WHERE {when}"
    return f"INSERT INTO totals SELECT {_filled(fields, counted, counted.table)} GROUP BY 1, 2, 3, 4"


def _triggers(name: str, counted: Counted) -> Sequence[str]:
    plus, minus = _filled(_ADD, counted, "NEW"), _filled(_ADD, counted, "OLD", sign="-")
    counts = (counted.what, counted.name, counted.detail, counted.day, counted.bytes)
    changed = " OR ".join(
        f"{part.format(row='OLD')} IS NOT {part.format(row='NEW')}" for part in counts if "{row}" in part
    )
    return [
        f"CREATE TRIGGER {name}_comes AFTER INSERT ON {counted.table} BEGIN {plus} END",
        f"CREATE TRIGGER {name}_goes AFTER DELETE ON {counted.table} BEGIN {minus} END",
        f"CREATE TRIGGER {name}_changes AFTER UPDATE OF {', '.join(counted.columns)} ON {counted.table} "
        f"WHEN {changed} BEGIN {minus} {plus} END",
    ]


_ADD = """INSERT INTO totals SELECT {what}, {name}, {detail}, {day}, {sign}1, {sign}{bytes} WHERE {when}
    ON CONFLICT DO UPDATE SET files = files + excluded.files, bytes = bytes + excluded.bytes;"""


def _filled(sql: str, counted: Counted, row: str, sign: str = "") -> str:
    parts = {name: part for name, part in vars(counted).items() if isinstance(part, str)}
    return sql.format(**parts, sign=sign).format(row=row)
