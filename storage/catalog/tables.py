"""The catalog's tables and the indexes that its frequent queries stand on. Times are ms since 1970.

Two databases keep them. What one of them would take for something else is said to both here: numbers have 64
bits, and texts that are compared are in the order of their bytes. The condition of a partial index is said to
SQLite here; `postgres.py` says it to Postgres, whose dialect takes a while to import.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    cast,
    func,
    text,
)

from storage.catalog.expressions import owner_of, upload_of

metadata = MetaData()

Big = BigInteger().with_variant(Integer(), "sqlite")
"""A number of 64 bits: Postgres' Integer has 32, SQLite's only INTEGER numbers its rows."""


def summed(column: ColumnElement[int]) -> ColumnElement[int]:
    """The sum of a column, 0 of no rows: a number without decimals, which Postgres would make it."""
    return cast(func.coalesce(func.sum(column), 0), Big)


def Ascii(length: int) -> String:  # noqa: N802 (a type)
    """A text that is a key, or a part of one: in the order of its bytes, in whatever language a server is."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where))


kv = Table(
    "kv",
    metadata,
    Column("name", Ascii(64), primary_key=True),
    Column("value", Text, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("number", Big, Identity(), primary_key=True),  # in order of arrival
    Column("id", Ascii(36), nullable=False, unique=True),
    # Null: a tombstone for an id that was never seen.
    Column("source", Text().with_variant(Text(collation="C"), "postgresql")),
    Column("state", Ascii(16), nullable=False),
    Column("recipe", String(64), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("event_ms", Big, nullable=False),
    Column("event_n", Big, nullable=False),
    Column("event_epoch", Big, nullable=False),
    Column("job_id", String(64), nullable=False),  # `PARKED`: it waits for one
    Column("generation", Big, nullable=False),
    Column("claim", Big, nullable=False),
    Column("holder", String(128)),  # who claimed it; null once that claim has ended
    Column("crash_count", Big, nullable=False),
    Column("attempts", Big, nullable=False),
    Column("queued_ms", Big, nullable=False),
    Column("changed_ms", Big, nullable=False),
    Column("not_before_ms", Big, nullable=False),
    Column("revive", Boolean, nullable=False),  # wanted again while it is being deleted
    Column("delete_original", Boolean, nullable=False),
    # Found in the storage, not announced: the first event for its source takes it over.
    Column("adopted", Boolean, nullable=False),
    Column("error_code", String(32)),
    Column("error_message", Text),
    Column("seen", Text),  # how its original was when it was put off because of that
    Column("stamp", Text),
    Column("sha256", Ascii(64)),
    Column("bytes", Big),
    Column("format", String(16)),
    Column("width", Big),
    Column("height", Big),
    Column("color", String(7)),
    Column("traceparent", Ascii(55)),  # of the trace in which an app asked for it
    Column("owner", Ascii(64)),  # that its newest event names
    # In whose turn it is done, who is debited: an app with a stream has owners of its own. Null: the owner.
    Column("account", Text().with_variant(Text(collation="C"), "postgresql")),
    # What is shown while a picture loads: 25 bytes at most, or 28 characters.
    Column("thumbhash", LargeBinary),
    Column("blurhash", String(32)),
    # The first digits of the SHA-256 of its picture: a worker of the version before replaces that alone.
    Column("placeholder_of", String(8)),
    Column("placeholder_tried", String(32)),  # what could not make one of that picture
    Column("replaces", Ascii(36)),  # the upload in whose place this one comes, once it is ready
    Column("replaced_by", Ascii(36)),  # the one that came in the place of this one
    Column("original_fate", String(8)),  # what became of its original when it was deleted
    # Lists are pages, newest first: an index has the filter that selects most, and the order.
    Index("uploads_by_change", "changed_ms", "id"),
    Index("uploads_by_state", "state", "changed_ms", "id"),
    Index("uploads_by_source", "source"),
    # With the source, which is null, or SQLite would take the index before.
    _partial("uploads_unseen", "source", "changed_ms", where="source IS NULL"),
    _partial("uploads_by_bytes", "bytes", where="bytes IS NOT NULL"),
    _partial("uploads_by_error", "error_code", "changed_ms", "id", where="error_code IS NOT NULL"),
)
IS_NAMED = text("recipe <> 'default'")
"""Of most uploads an index on their recipe would select nothing; a query says the same as the index."""
Index(
    "uploads_by_recipe",
    uploads.c.recipe,
    uploads.c.changed_ms,
    uploads.c.id,
    sqlite_where=IS_NAMED,
)
owner = owner_of(uploads.c.owner, uploads.c.source)
Index("uploads_by_owner", owner, uploads.c.changed_ms, uploads.c.id)
IS_FAILED = text("state = 'failed'")
"""Many uploads may wait with the code that some have failed with: so failures have indexes of their own."""
_OF_FAILED: dict[str, tuple[ColumnElement[Any], ...]] = {
    "uploads_failed": (uploads.c.error_code,),
    "uploads_failed_by_owner": (owner,),
    "uploads_failed_by_owner_and_code": (owner, uploads.c.error_code),
}
for _name, _columns in _OF_FAILED.items():
    Index(
        _name,
        *(uploads.c.state, *_columns, uploads.c.changed_ms, uploads.c.id),
        sqlite_where=IS_FAILED,
    )

IS_PUT_OFF = text("CASE WHEN state IN ('queued', 'deleting') THEN error_code END IS NOT NULL")
"""Waits for another try: few among the many that may wait for their first. In words of no other index."""
Index(
    "uploads_put_off",
    uploads.c.changed_ms,
    uploads.c.id,
    sqlite_where=IS_PUT_OFF,
)

PARKED = ""
"""In place of a job's ID: a dispatcher puts the upload on one when it is its owner's turn.

One in work is parked, too, where its worker is gone.
"""
# SQLite makes a table of a list of three, each time.
_JOB = "CASE state WHEN 'queued' THEN job_id WHEN 'processing' THEN job_id WHEN 'deleting' THEN job_id END"
IS_PARKED = text(f"{_JOB} = ''")
IS_ON_A_JOB = text(f"{_JOB} <> ''")
Index(
    "uploads_on_jobs",
    uploads.c.changed_ms,
    uploads.c.id,
    sqlite_where=IS_ON_A_JOB,
)
account = owner_of(uploads.c.account, uploads.c.owner, uploads.c.source)
_PARKED_BY = {
    "uploads_parked": (account, uploads.c.queued_ms, uploads.c.number),
    "uploads_parked_by_age": (uploads.c.queued_ms, uploads.c.number),
}
for _name, _columns in _PARKED_BY.items():
    Index(_name, *_columns, sqlite_where=IS_PARKED)

variants = Table(
    "variants",
    metadata,
    Column("key", Ascii(128), primary_key=True),
    Column("upload_id", Ascii(36), ForeignKey("uploads.id"), nullable=False),
    Column("name", Ascii(32), nullable=False),
    Column("number", Big, nullable=False),  # its place in the recipe, from 0
    Column("width", Big, nullable=False),
    Column("height", Big, nullable=False),
    Column("bytes", Big, nullable=False),
    Column("sha256", Ascii(64), nullable=False),
    Column("made_ms", Big, nullable=False),
    Column("superseded_ms", Big),
    Index("variants_by_upload", "upload_id"),
    _partial("variants_current", "upload_id", "name", where="superseded_ms IS NULL", unique=True),
    _partial("variants_superseded", "superseded_ms", where="superseded_ms IS NOT NULL"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Big, Identity(), primary_key=True),
    Column("body", Text, nullable=False),
    Column("made_ms", Big, nullable=False),
    Column("sent_ms", Big),
    Column("traceparent", Ascii(55)),
    _partial("outbox_unsent", "seq", where="sent_ms IS NULL"),
    Index("outbox_by_age", "made_ms"),
    sqlite_autoincrement=True,  # seq must never be given twice, not even after the last row was pruned
)

about = upload_of(outbox.c.body)
Index("outbox_by_upload", about, outbox.c.seq)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Big, Identity(), primary_key=True),
    Column("stream_id", Ascii(64), nullable=False),
    Column("epoch", Big, nullable=False),
    Column("code", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_ms", Big, nullable=False),
    UniqueConstraint("epoch", "stream_id"),
    sqlite_autoincrement=True,
)

poison_contents = Table(
    "poison_contents",
    metadata,
    Column("sha256", Ascii(64), primary_key=True),
    Column("version", Ascii(200), primary_key=True),
    Column("bytes", Big, nullable=False),
    Column("code", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("made_ms", Big, nullable=False),
    Index("poison_by_age", "made_ms"),
)

deletion_marks = Table(
    "deletion_marks",
    metadata,
    Column("key", Ascii(128), primary_key=True),
    Column("marked_ms", Big, nullable=False),
    Column("moved_ms", Big),  # null: a sweep is moving the file; otherwise when it had moved it
    Index("deletion_marks_by_age", "moved_ms"),
)

# Kept up by triggers (see the migrations): in every transaction, whatever writes the rows. `what` is
# upload (name: state, or waiting for queued and processing together; detail: error code), original
# (format), variant and superseded (name, detail: the key's ending, day: since 1970, when it was made) or
# dead_letter (code).
totals = Table(
    "totals",
    metadata,
    Column("what", Ascii(16), primary_key=True),
    Column("name", Ascii(64), primary_key=True),
    Column("detail", Ascii(64), primary_key=True),
    Column("day", Big, primary_key=True),
    Column("files", Big, nullable=False),
    Column("bytes", Big, nullable=False),
    sqlite_with_rowid=False,
)

# On Postgres alone, where `totals` is a view of it: what each change of a row added. Those of one place
# become one row now and then.
totals_delta = Table(
    "totals_delta", MetaData(), *(Column(one.name, one.type, nullable=False) for one in totals.columns)
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("day", Big, primary_key=True, autoincrement=False),  # since 1970, UTC
    Column("time_ms", Big, nullable=False),
    Column("uploads", Big, nullable=False),
    Column("ready", Big, nullable=False),
    Column("failed", Big, nullable=False),
    Column("originals", Big, nullable=False),
    Column("original_bytes", Big, nullable=False),
    Column("variants", Big, nullable=False),
    Column("variant_bytes", Big, nullable=False),
    Column("superseded", Big, nullable=False),
    Column("superseded_bytes", Big, nullable=False),
    Column("free_bytes", Big),
)

http_keys = Table(
    "http_keys",
    metadata,
    Column("name", Ascii(32), primary_key=True),
    Column("sha256", Ascii(64), nullable=False, unique=True),  # of the secret, which nobody keeps
    Column("scopes", Text, nullable=False),  # separated by commas
    Column("owner", Ascii(64)),  # whose uploads alone it opens; null: everybody's
    Column("prefix", Text().with_variant(Text(collation="C"), "postgresql")),  # of sources; null: all
    Column("made_ms", Big, nullable=False),
    Column("revoked_ms", Big),
)

owner_costs = Table(
    "owner_costs",
    metadata,
    # A folder may be longer than what an event may name.
    Column("owner", Text().with_variant(Text(collation="C"), "postgresql"), primary_key=True),
    Column("hour", Big, primary_key=True, autoincrement=False),  # since 1970
    Column("cpu_ms", Big, nullable=False),  # that decoders took
    Column("uploads", Big, nullable=False),  # that became ready or failed
    Column("bytes", Big, nullable=False),  # of originals that were read
    Index("owner_costs_by_hour", "hour"),
)

owner_uses = Table(
    "owner_uses",
    metadata,
    Column("owner", Text().with_variant(Text(collation="C"), "postgresql"), primary_key=True),
    Column("slot", Big, primary_key=True, autoincrement=False),  # of 20 s, since 1970
    Column("used_ms", Big, nullable=False),  # by which its turns come later
    Index("owner_uses_by_slot", "slot"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("endpoint", Ascii(32), primary_key=True),
    Column("seq", Big, primary_key=True, autoincrement=False),  # of its message in the outbox
    Column("upload_id", Ascii(36)),  # that the message is about; null: about none
    Column("behind_id", Ascii(36)),  # an upload whose earlier messages go before it, too
    Column("made_ms", Big, nullable=False),  # the message
    Column("since_ms", Big, nullable=False),  # since when it waits here: taken from the outbox
    Column("attempts", Big, nullable=False),
    Column("next_ms", Big, nullable=False),
    Column("tried_ms", Big),  # when the last attempt ended; null: there was none
    Column("problem", Text),  # of the last attempt
    Column("given_up_ms", Big),  # null: it waits
    Index("webhook_deliveries_due", "endpoint", "given_up_ms", "next_ms", "seq"),
    Index("webhook_deliveries_by_upload", "endpoint", "upload_id", "seq"),
    Index("webhook_deliveries_by_age", "made_ms"),
)

SEALED = (
    *("uploads", "variants", "outbox", "dead_letters", "poison_contents", "deletion_marks", "snapshots"),
    *("http_keys", "owner_costs", "owner_uses", "webhook_deliveries"),
)
"""The tables in which nothing is changed any more once their catalog moves."""
