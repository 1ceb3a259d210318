"""The catalog's tables and the indexes that its frequent queries stand on. Times are ms since 1970."""

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

kv = Table(
    "kv",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("number", Integer, primary_key=True),  # in order of arrival
    Column("id", String(36), nullable=False, unique=True),
    Column("source", Text),  # null: a tombstone for an id that was never seen
    Column("state", String(16), nullable=False),
    Column("recipe", String(64), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("event_ms", Integer, nullable=False),
    Column("event_n", Integer, nullable=False),
    Column("event_epoch", Integer, nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("claim", Integer, nullable=False),
    Column("holder", String(128)),  # who claimed it; null once that claim has ended
    Column("crash_count", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("queued_ms", Integer, nullable=False),
    Column("changed_ms", Integer, nullable=False),
    Column("not_before_ms", Integer, nullable=False),
    Column("revive", Boolean, nullable=False),  # wanted again while it is being deleted
    Column("delete_original", Boolean, nullable=False),
    # Found in the storage, not announced: the first event for its source takes it over.
    Column("adopted", Boolean, nullable=False),
    Column("error_code", String(32)),
    Column("error_message", Text),
    Column("seen", Text),  # how its original was when it was put off because of that
    Column("stamp", Text),
    Column("sha256", String(64)),
    Column("bytes", Integer),
    Column("format", String(16)),
    Column("width", Integer),
    Column("height", Integer),
    Column("color", String(7)),
    Index("uploads_by_state", "state", "changed_ms"),
    Index("uploads_by_source", "source"),
    Index("uploads_by_bytes", "bytes", sqlite_where=text("bytes IS NOT NULL")),
)

variants = Table(
    "variants",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("upload_id", String(36), ForeignKey("uploads.id"), nullable=False),
    Column("name", String(32), nullable=False),
    Column("number", Integer, nullable=False),  # its place in the recipe, from 0
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("made_ms", Integer, nullable=False),
    Column("superseded_ms", Integer),
    Index("variants_by_upload", "upload_id"),
    Index("variants_current", "upload_id", "name", unique=True, sqlite_where=text("superseded_ms IS NULL")),
    Index("variants_superseded", "superseded_ms", sqlite_where=text("superseded_ms IS NOT NULL")),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("body", Text, nullable=False),
    Column("made_ms", Integer, nullable=False),
    Column("sent_ms", Integer),
    Index("outbox_unsent", "seq", sqlite_where=text("sent_ms IS NULL")),
    Index("outbox_by_age", "made_ms"),
    sqlite_autoincrement=True,  # seq must never be given twice, not even after the last row was pruned
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("stream_id", String(64), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("code", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_ms", Integer, nullable=False),
    UniqueConstraint("epoch", "stream_id"),
    sqlite_autoincrement=True,
)

poison_contents = Table(
    "poison_contents",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("version", String(200), primary_key=True),
    Column("bytes", Integer, nullable=False),
    Column("code", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("made_ms", Integer, nullable=False),
    Index("poison_by_age", "made_ms"),
)

deletion_marks = Table(
    "deletion_marks",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("marked_ms", Integer, nullable=False),
    Column("moved_ms", Integer),  # null: a sweep is moving the file; otherwise when it had moved it
    Index("deletion_marks_by_age", "moved_ms"),
)

# Kept up by triggers (see the migrations): in every transaction, whatever writes the rows. `what` is
# upload (name: state, or waiting for queued and processing together; detail: error code), original
# (format), variant and superseded (name, detail: the key's ending, day: since 1970, when it was made) or
# dead_letter (code).
totals = Table(
    "totals",
    metadata,
    Column("what", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("detail", String(64), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("files", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    sqlite_with_rowid=False,
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970, UTC
    Column("time_ms", Integer, nullable=False),
    Column("uploads", Integer, nullable=False),
    Column("ready", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("originals", Integer, nullable=False),
    Column("original_bytes", Integer, nullable=False),
    Column("variants", Integer, nullable=False),
    Column("variant_bytes", Integer, nullable=False),
    Column("superseded", Integer, nullable=False),
    Column("superseded_bytes", Integer, nullable=False),
    Column("free_bytes", Integer),
)
