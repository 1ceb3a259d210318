"""The first schema, and the triggers that keep the totals up in every writing transaction.

Its number is 1000: numbers below it were of development versions, whose catalogs no migration starts from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "1000"
down_revision = None
branch_labels = None
depends_on = None


_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _ascii(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _index(name: str, table: str, column: str, where: str) -> None:
    """Make an index of some rows, on either database."""
    condition = sa.text(where)
    op.create_index(name, table, [column], sqlite_where=condition, postgresql_where=condition)


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
    "dead_letter": Counted(
        "dead_letters", ["code"], "'dead_letter'", "{row}.code", bytes="length({row}.body)"
    ),
}


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", _BIG, sa.Identity(), nullable=False),
        sa.Column("stream_id", _ascii(64), nullable=False),
        sa.Column("epoch", _BIG, nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_ms", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("epoch", "stream_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "deletion_marks",
        sa.Column("key", _ascii(128), nullable=False),
        sa.Column("marked_ms", _BIG, nullable=False),
        sa.Column("moved_ms", _BIG, nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("deletion_marks_by_age", "deletion_marks", ["moved_ms"], unique=False)
    op.create_table(
        "kv",
        sa.Column("name", _ascii(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", _BIG, sa.Identity(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("made_ms", _BIG, nullable=False),
        sa.Column("sent_ms", _BIG, nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_by_age", "outbox", ["made_ms"], unique=False)
    _index("outbox_unsent", "outbox", "seq", "sent_ms IS NULL")
    op.create_table(
        "poison_contents",
        sa.Column("sha256", _ascii(64), nullable=False),
        sa.Column("version", _ascii(200), nullable=False),
        sa.Column("bytes", _BIG, nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("made_ms", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("sha256", "version"),
    )
    op.create_index("poison_by_age", "poison_contents", ["made_ms"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("day", _BIG, autoincrement=False, nullable=False),
        sa.Column("time_ms", _BIG, nullable=False),
        sa.Column("uploads", _BIG, nullable=False),
        sa.Column("ready", _BIG, nullable=False),
        sa.Column("failed", _BIG, nullable=False),
        sa.Column("originals", _BIG, nullable=False),
        sa.Column("original_bytes", _BIG, nullable=False),
        sa.Column("variants", _BIG, nullable=False),
        sa.Column("variant_bytes", _BIG, nullable=False),
        sa.Column("superseded", _BIG, nullable=False),
        sa.Column("superseded_bytes", _BIG, nullable=False),
        sa.Column("free_bytes", _BIG, nullable=True),
        sa.PrimaryKeyConstraint("day"),
    )
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    _create_totals(on_sqlite=on_sqlite)
    op.create_table(
        "uploads",
        sa.Column("number", _BIG, sa.Identity(), nullable=False),
        sa.Column("id", _ascii(36), nullable=False),
        sa.Column("source", _BYTEWISE, nullable=True),
        sa.Column("state", _ascii(16), nullable=False),
        sa.Column("recipe", sa.String(length=64), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("event_ms", _BIG, nullable=False),
        sa.Column("event_n", _BIG, nullable=False),
        sa.Column("event_epoch", _BIG, nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("generation", _BIG, nullable=False),
        sa.Column("claim", _BIG, nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=True),
        sa.Column("crash_count", _BIG, nullable=False),
        sa.Column("attempts", _BIG, nullable=False),
        sa.Column("queued_ms", _BIG, nullable=False),
        sa.Column("changed_ms", _BIG, nullable=False),
        sa.Column("not_before_ms", _BIG, nullable=False),
        sa.Column("revive", sa.Boolean(), nullable=False),
        sa.Column("delete_original", sa.Boolean(), nullable=False),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        sa.Column("error_code", sa.String(length=32), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("seen", sa.Text(), nullable=True),
        sa.Column("stamp", sa.Text(), nullable=True),
        sa.Column("sha256", _ascii(64), nullable=True),
        sa.Column("bytes", _BIG, nullable=True),
        sa.Column("format", sa.String(length=16), nullable=True),
        sa.Column("width", _BIG, nullable=True),
        sa.Column("height", _BIG, nullable=True),
        sa.Column("color", sa.String(length=7), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
    )
    _index("uploads_by_bytes", "uploads", "bytes", "bytes IS NOT NULL")
    op.create_index("uploads_by_source", "uploads", ["source"], unique=False)
    op.create_index("uploads_by_state", "uploads", ["state", "changed_ms"], unique=False)
    op.create_table(
        "variants",
        sa.Column("key", _ascii(128), nullable=False),
        sa.Column("upload_id", _ascii(36), nullable=False),
        sa.Column("name", _ascii(32), nullable=False),
        sa.Column("number", _BIG, nullable=False),
        sa.Column("width", _BIG, nullable=False),
        sa.Column("height", _BIG, nullable=False),
        sa.Column("bytes", _BIG, nullable=False),
        sa.Column("sha256", _ascii(64), nullable=False),
        sa.Column("made_ms", _BIG, nullable=False),
        sa.Column("superseded_ms", _BIG, nullable=True),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["uploads.id"],
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("variants_by_upload", "variants", ["upload_id"], unique=False)
    op.create_index(
        "variants_current",
        "variants",
        ["upload_id", "name"],
        unique=True,
        sqlite_where=sa.text("superseded_ms IS NULL"),
        postgresql_where=sa.text("superseded_ms IS NULL"),
    )
    _index("variants_superseded", "variants", "superseded_ms", "superseded_ms IS NOT NULL")
    for name, counted in _COUNTED.items():
        triggers = _triggers(name, counted) if on_sqlite else _postgres_triggers(name, counted)
        for statement in triggers:
            op.execute(statement)
    if not on_sqlite:
        for statement in _IN_ORDER_OF_COMMIT:
            op.execute(statement)


# SQLite has one writer at a time. Of several, one that was given the smaller `seq` might commit later, when a
# reader has seen the greater one and will never look below it. The trigger runs before numbers are given.
_IN_ORDER_OF_COMMIT = [
    """CREATE FUNCTION wait_for_seq() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('media-worker:outbox', 0));
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER outbox_in_order BEFORE INSERT ON outbox
        FOR EACH STATEMENT EXECUTE FUNCTION wait_for_seq()""",
]


def _create_totals(*, on_sqlite: bool) -> None:
    columns: list[sa.Column[Any]] = [
        *(sa.Column(name, _ascii(size), nullable=False) for name, size in _PLACE.items()),
        *(sa.Column(name, _BIG, nullable=False) for name in ("day", "files", "bytes")),
    ]
    if on_sqlite:
        key = sa.PrimaryKeyConstraint("what", "name", "detail", "day")
        op.create_table("totals", *columns, key, sqlite_with_rowid=False)
    else:
        op.create_table("totals_delta", *columns)
        op.execute("ALTER TABLE totals_delta SET (autovacuum_vacuum_scale_factor = 0.01)")
        op.execute(_SUMMED)


_PLACE = {"what": 16, "name": 64, "detail": 64}
_SUMMED = """CREATE VIEW totals AS
    SELECT what, name, detail, day, CAST(sum(files) AS bigint) AS files, CAST(sum(bytes) AS bigint) AS bytes
    FROM totals_delta GROUP BY what, name, detail, day"""


def _triggers(name: str, counted: Counted) -> Sequence[str]:
    plus, minus = _filled(_ADD, counted, "NEW"), _filled(_ADD, counted, "OLD", sign="-")
    counts = (counted.what, counted.name, counted.detail, counted.day, counted.bytes)
    changed = " OR ".join(
        f"{part.format(row='OLD')} IS NOT {part.format(row='NEW')}" for part in counts if "{row}" in part
    )
    return [
        f"CREATE TRIGGER {name}_inserted AFTER INSERT ON {counted.table} BEGIN {plus} END",
        f"CREATE TRIGGER {name}_deleted AFTER DELETE ON {counted.table} BEGIN {minus} END",
        f"CREATE TRIGGER {name}_updated AFTER UPDATE OF {', '.join(counted.columns)} ON {counted.table} "
        f"WHEN {changed} BEGIN {minus} {plus} END",
    ]


_ADD = """INSERT INTO totals SELECT {what}, {name}, {detail}, {day}, {sign}1, {sign}{bytes} WHERE {when}
    ON CONFLICT DO UPDATE SET files = files + excluded.files, bytes = bytes + excluded.bytes;"""


def _filled(sql: str, counted: Counted, row: str, sign: str = "") -> str:
    parts = {name: part for name, part in vars(counted).items() if isinstance(part, str)}
    return sql.format(**parts, sign=sign).format(row=row)


# Postgres has neither `iif` nor `instr`.
_ON_POSTGRES = {
    "upload": {
        "name": "CASE WHEN {row}.state IN ('queued', 'processing') THEN 'waiting' ELSE {row}.state END"
    },
    "variant": {
        "what": "CASE WHEN {row}.superseded_ms IS NULL THEN 'variant' ELSE 'superseded' END",
        "detail": "substr({row}.key, strpos({row}.key, '.') + 1)",
    },
}


def _postgres_triggers(name: str, counted: Counted) -> Sequence[str]:
    counted = replace(counted, when=counted.when.replace("1", "true"), **_ON_POSTGRES.get(name, {}))
    plus, minus = (_filled(_ADD_ON_POSTGRES, counted, row, sign) for row, sign in (("NEW", ""), ("OLD", "-")))
    function = f"""CREATE FUNCTION count_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP <> 'INSERT' THEN {minus} END IF;
        IF TG_OP <> 'DELETE' THEN {plus} END IF;
        RETURN NULL;
    END $$"""
    counts = (counted.what, counted.name, counted.detail, counted.day, counted.bytes)
    changed = " OR ".join(
        f"{part.format(row='OLD')} IS DISTINCT FROM {part.format(row='NEW')}"
        for part in counts
        if "{row}" in part
    )
    run = f"FOR EACH ROW {{when}} EXECUTE FUNCTION count_{name}()"
    return [
        function,
        f"CREATE TRIGGER {name}_counted AFTER INSERT OR DELETE ON {counted.table} {run.format(when='')}",
        f"CREATE TRIGGER {name}_updated AFTER UPDATE OF {', '.join(counted.columns)} ON {counted.table} "
        + run.format(when=f"WHEN ({changed})"),
    ]


# Rows that all writers change would have each wait for the commit of the one before, and two that change them
# crosswise would end in a deadlock: what changes is noted beside what is there, and whoever reads sums.
_ADD_ON_POSTGRES = """INSERT INTO totals_delta
    SELECT {what}, {name}, {detail}, {day}, {sign}1, {sign}{bytes} WHERE {when};"""
