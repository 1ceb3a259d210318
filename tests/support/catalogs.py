"""Short words for what the tests of the catalog do again and again: events in, claims, outcomes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest
from sqlalchemy import event

from storage.catalog.intake import EventStore
from storage.catalog.opening import Catalog
from storage.catalog.records import (
    Claim,
    Committed,
    DeadLetter,
    DeletionRequested,
    Failed,
    Message,
    Original,
    Postponed,
    Ready,
    Removed,
    State,
    StoredVariant,
    StreamId,
    Taken,
    Upload,
    UploadRequested,
)

ON_BOTH = pytest.mark.parametrize("database_kind", ["sqlite", "postgres"])
"""Every test of the module runs on a catalog of either kind."""

CAT = UUID("4a2ca705-03aa-52b8-a8b8-e2aa1374070e")
SOURCE = "uploads/2026/11/cat.jpg"
SHA = "a" * 64
THUMBHASH = bytes.fromhex("d666064596176888708788818a598886178f727008")


def upload_event(ms: int, upload_id: UUID = CAT, source: str = SOURCE, **metadata: object) -> UploadRequested:
    """An upload event at that place in the stream."""
    return UploadRequested(StreamId(ms, 0), upload_id, source, "default", metadata)


def delete_event(ms: int, upload_id: UUID = CAT, *, original: bool = False) -> DeletionRequested:
    """A delete event at that place in the stream."""
    return DeletionRequested(StreamId(ms, 0), upload_id, original)


def letter(stream_id: str, message: str = "refused") -> DeadLetter:
    """A dead letter of that stream entry."""
    return DeadLetter(stream_id, "invalid_event", message, b"bytes")


async def take(catalog: Catalog, *events: UploadRequested | DeletionRequested) -> Taken:
    """Put events into the catalog as one batch."""
    pairs = [(event, letter(f"{event.position.ms}-{event.position.n}")) for event in events]
    return await catalog.intake.take(pairs, [])


def spreading(catalog: Catalog, uploads_per_job: int) -> Catalog:
    """The same catalog, with at most so many uploads on a job."""
    database = catalog.database
    return replace(catalog, intake=EventStore(database, uploads_per_job))


async def dispatch(catalog: Catalog, uploads_per_job: int = 1000) -> Mapping[str, Sequence[UUID]]:
    """Give jobs to what is parked, as dispatchers do; returns its uploads by job."""
    wanted = dict.fromkeys(await catalog.parking.owners(), 10_000)
    jobs = await catalog.parking.take(wanted, uploads_per_job)
    return {job_id: list(owners) for job_id, owners in jobs.items()}


async def upload(catalog: Catalog, upload_id: UUID = CAT) -> Upload:
    """The upload, which is there."""
    found = await catalog.reports.find(upload_id)
    assert found is not None
    return found


async def claim(catalog: Catalog, upload_id: UUID = CAT, holder: str = "worker") -> Claim:
    """The right to the upload's next outcome, on whatever job it is."""
    taken = await try_claim(catalog, upload_id, holder)
    assert taken is not None
    return taken


async def try_claim(catalog: Catalog, upload_id: UUID = CAT, holder: str = "worker") -> Claim | None:
    """The same where it is there to be had."""
    jobs = {upload.id: upload.job_id for upload in await catalog.requeuer.overdue(-1000, 1000)}
    return await catalog.claims.claim(upload_id, jobs.get(upload_id, ""), holder)


def ready(of: Claim, sha256: str = SHA, names: tuple[str, ...] = ("thumb", "large")) -> Ready:
    """The outcome of a claim whose variants were all made from that content."""
    original = Original("stamp", sha256, 1000, "jpeg", 640, 480, "#102030", THUMBHASH)
    keys = [key(of.upload.id, sha256, name) for name in names]
    made = [
        StoredVariant(name, place, 64 * size, 48 * size, 500 * size, SHA)
        for size, (name, place) in enumerate(zip(names, keys, strict=True), 1)
    ]
    return Ready(of, original, made)


def key(upload_id: UUID, sha256: str, name: str) -> str:
    """A key that changes with upload, content and name."""
    return f"variants/{uuid5(upload_id, sha256 + name)}.jpg"


def failed(of: Claim) -> Failed:
    return Failed(of, "corrupt_image", "The picture is damaged.")


def postponed(of: Claim, delay_ms: int = 60_000, *, counted: bool = True) -> Postponed:
    return Postponed(of, "storage_full", "No room.", delay_ms, counted)


async def commit(catalog: Catalog, outcome: Ready | Failed | Postponed | Removed) -> Committed:
    """Write one outcome."""
    [committed] = await catalog.claims.commit([outcome])
    return committed


async def work(catalog: Catalog, upload_id: UUID = CAT) -> None:
    """Do whatever waits for this upload, as a worker does."""
    while (taken := await try_claim(catalog, upload_id)) is not None:
        victim = taken.upload.state is State.DELETING
        await commit(catalog, Removed(taken) if victim else ready(taken))


@contextmanager
def transactions(catalog: Catalog) -> Iterator[list[str]]:
    """Every begin and end of a transaction that writes."""
    seen: list[str] = []
    writing: set[int] = set()
    engine = catalog.database._engine.sync_engine

    def began(connection: Any) -> None:
        if connection.get_execution_options().get("writes"):
            seen.append("BEGIN IMMEDIATE")
            writing.add(id(connection))

    def committed(connection: Any) -> None:
        if id(connection) in writing:
            seen.append("COMMIT")
            writing.discard(id(connection))

    event.listen(engine, "begin", began)
    event.listen(engine, "commit", committed)
    try:
        yield seen
    finally:
        event.remove(engine, "begin", began)
        event.remove(engine, "commit", committed)


@contextmanager
def statements(catalog: Catalog) -> Iterator[list[str]]:
    """Every statement, each of which is a round trip where the database is a server."""
    engine, seen = catalog.database._engine.sync_engine, list[str]()

    def asked(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", asked)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", asked)


@contextmanager
def meanwhile(catalog: Catalog, before: str, sql: str) -> Iterator[None]:
    """Somebody else does `sql` between two statements of a transaction: right before one with `before` in it.

    So it is where a database has several writers; SQLite lets nobody in between.
    """
    engine, done = catalog.database._engine.sync_engine, False

    def let_in(connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        nonlocal done
        if before in statement and not done:
            done = True
            adapted = connection.connection.dbapi_connection
            run = getattr(adapted.driver_connection, "_conn", None)  # sqlite3's own, in this thread
            adapted.run_async(lambda driver: driver.execute(sql)) if run is None else run.execute(sql)

    event.listen(engine, "before_cursor_execute", let_in)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", let_in)
    assert done, f"no statement had {before} in it"


@contextmanager
def levels(catalog: Catalog) -> Iterator[list[int]]:
    """How surely each transaction was committed: 2 once the disk has it, 1 once other processes see it."""
    seen: list[int] = []
    engine = catalog.database._engine.sync_engine

    def committing(connection: Any) -> None:
        adapted = connection.connection.dbapi_connection
        if opened := getattr(adapted.driver_connection, "_conn", None):
            seen.append(opened.execute("PRAGMA synchronous").fetchone()[0])
        else:
            waits = adapted.run_async(lambda driver: driver.fetchval("SHOW synchronous_commit"))
            seen.append({"on": 2, "off": 1}[waits])

    event.listen(engine, "commit", committing)
    try:
        yield seen
    finally:
        event.remove(engine, "commit", committing)


async def outbox_of(catalog: Catalog, after: int = 0) -> list[Message]:
    """The messages after that one."""
    return list(await catalog.outbox.since(after))
