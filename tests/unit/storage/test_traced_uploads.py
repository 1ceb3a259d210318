"""The trace of an app stays with its upload, and is handed back in every message about it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from storage.catalog import schema
from storage.catalog.database import open_to_read
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.outbox import Outbox
from storage.catalog.records import About, Claim, Message, Removed, State
from storage.catalog.replay import waiting_since
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SOURCE,
    claim,
    commit,
    delete_event,
    failed,
    letter,
    outbox_of,
    postponed,
    ready,
    take,
    upload,
    upload_event,
    work,
)
from tests.support.old_catalogs import migrations_up_to

pytestmark = ON_BOTH

FIRST = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECOND = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OWN = "00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01"


async def announce(catalog: Catalog, ms: int, traceparent: str | None) -> None:
    await take(catalog, replace(upload_event(ms), traceparent=traceparent))


async def last(catalog: Catalog) -> Message:
    return (await outbox_of(catalog))[-1]


async def test_every_message_about_an_upload_has_the_traceparent_of_its_event(catalog: Catalog) -> None:
    await announce(catalog, 1, FIRST)
    await commit(catalog, postponed(await claim(catalog), 0))
    await commit(catalog, ready(await claim(catalog)))
    await announce(catalog, 2, FIRST)
    await commit(catalog, failed(await claim(catalog)))
    await take(catalog, replace(delete_event(3), traceparent=SECOND))
    await commit(catalog, Removed(await claim(catalog)))

    sent = [(message.kind, message.traceparent) for message in await outbox_of(catalog)]
    assert sent == [(State.READY, FIRST), (State.FAILED, FIRST), (State.DELETED, SECOND)]


async def test_an_upload_that_no_trace_asks_for_has_none(catalog: Catalog) -> None:
    await announce(catalog, 1, None)
    await commit(catalog, ready(await claim(catalog)))

    assert (await last(catalog)).traceparent is None


async def queued(catalog: Catalog) -> Claim | None:
    await announce(catalog, 1, FIRST)
    return None


async def processing(catalog: Catalog) -> Claim | None:
    await announce(catalog, 1, FIRST)
    return await claim(catalog)


async def is_ready(catalog: Catalog) -> Claim | None:
    await announce(catalog, 1, FIRST)
    await commit(catalog, ready(await claim(catalog)))
    return None


async def is_deleting(catalog: Catalog) -> Claim | None:
    await is_ready(catalog)
    await take(catalog, replace(delete_event(2), traceparent=FIRST))
    return None


@pytest.mark.parametrize(
    ("state", "of_the_second", "expected"),
    [
        (queued, SECOND, SECOND),
        (queued, None, FIRST),  # one message answers both events
        (processing, SECOND, SECOND),
        (processing, None, FIRST),
        (is_ready, SECOND, SECOND),
        (is_ready, None, None),  # what was asked for first is done
        (is_deleting, SECOND, SECOND),
        (is_deleting, None, FIRST),
    ],
)
async def test_the_newest_event_that_has_a_traceparent_counts_until_the_work_is_done(
    catalog: Catalog,
    state: Callable[[Catalog], Awaitable[Claim | None]],
    of_the_second: str | None,
    expected: str | None,
) -> None:
    held = await state(catalog)
    await announce(catalog, 5, of_the_second)
    if held is not None:
        await commit(catalog, ready(held))
    while (await upload(catalog)).state is not State.READY:
        now = await claim(catalog)
        await commit(catalog, Removed(now) if now.upload.state is State.DELETING else ready(now))

    assert (await last(catalog)).traceparent == expected


async def test_an_event_that_comes_late_is_answered_in_the_trace_of_the_newest(catalog: Catalog) -> None:
    await announce(catalog, 5, SECOND)
    await work(catalog)
    await announce(catalog, 1, FIRST)

    assert (await last(catalog)).traceparent == SECOND


async def test_a_message_names_the_span_of_the_try_that_made_it(catalog: Catalog) -> None:
    await announce(catalog, 1, FIRST)
    traced = replace(await claim(catalog), traceparent=OWN)
    committed = await commit(catalog, ready(traced))

    assert committed.message is not None
    assert committed.message.traceparent == (await last(catalog)).traceparent == OWN
    assert (await upload(catalog)).traceparent == FIRST  # the next try's parent is the app's span, too


async def test_a_deletion_that_came_meanwhile_is_answered_in_its_own_trace(catalog: Catalog) -> None:
    await is_deleting(catalog)
    traced = replace(await claim(catalog), traceparent=OWN)
    await take(catalog, replace(delete_event(3), traceparent=SECOND))
    await commit(catalog, Removed(traced))

    assert (await last(catalog)).traceparent == SECOND


async def test_a_refused_event_is_answered_in_its_trace(catalog: Catalog) -> None:
    refused = replace(letter("7-0"), about=About(CAT, SOURCE, traceparent=FIRST))
    await catalog.intake.take([], [refused])

    assert (await last(catalog)).traceparent == FIRST


async def test_what_is_queued_again_stays_in_its_trace(catalog: Catalog) -> None:
    await announce(catalog, 1, FIRST)
    await commit(catalog, failed(await claim(catalog)))
    await catalog.requeuer.requeue([CAT], State.FAILED)
    await work(catalog)

    assert (await last(catalog)).traceparent == FIRST


# -- two versions side by side


async def test_a_worker_of_the_version_before_reads_and_writes_beside_this_one(catalog: Catalog) -> None:
    await announce(catalog, 1, FIRST)
    await commit(catalog, ready(await claim(catalog)))
    async with catalog.database.writing() as connection:
        [[body]] = await connection.execute(text("SELECT body FROM outbox"))
        theirs = text("INSERT INTO outbox (body, made_ms) VALUES (:body, 1)")
        await connection.execute(theirs, {"body": body})

    assert "traceparent" not in orjson.loads(body)  # it knows no such field
    assert [message.traceparent for message in await outbox_of(catalog)] == [FIRST, None]


async def test_a_message_of_a_version_that_knows_more_is_sent_without_that(catalog: Catalog) -> None:
    await announce(catalog, 1, FIRST)
    await commit(catalog, ready(await claim(catalog)))
    async with catalog.database.writing() as connection:
        [[body]] = await connection.execute(text("SELECT body FROM outbox"))
        newer = orjson.dumps({**orjson.loads(body), "mood": "good"}).decode()
        await connection.execute(text("UPDATE outbox SET body = :body"), {"body": newer})

    assert (await last(catalog)).traceparent == FIRST


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> str:
    """Where there is no catalog yet."""
    if database_kind == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/old.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def old_url(empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where there is a catalog of the first schema, with an upload that waits and a message."""
    first = migrations_up_to("1000", tmp_path / "migrations")
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", first)
        before.setattr(schema, "SCHEMAS", ("1000",))
        async with open_catalog(empty_url) as old, old.database.writing() as connection:
            await connection.execute(text(_AN_UPLOAD))
            await connection.execute(text("INSERT INTO outbox (body, made_ms) VALUES (:b, 1)"), {"b": _BODY})
    return empty_url


async def test_a_catalog_of_the_first_schema_is_migrated_with_its_uploads_and_messages(old_url: str) -> None:
    async with open_catalog(old_url, migrate=True) as new:
        found, [message] = await upload(new), await outbox_of(new)
        assert new.database.migrated is not None
        assert (new.database.migrated.before, new.database.migrated.after) == ("1000", schema.newest())
        assert (found.source, found.traceparent) == (SOURCE, None)
        assert (message.kind, message.source, message.traceparent) == (State.READY, SOURCE, None)
        await announce(new, 9, SECOND)
        await work(new)
        assert (await last(new)).traceparent == SECOND


async def test_a_restore_reads_a_catalog_that_is_not_migrated_yet(old_url: str) -> None:
    async with open_to_read(old_url) as database:
        [message] = await Outbox(database).since_in_any_schema(0)
        [waiting] = await waiting_since(database, 0)

    assert (message.kind, message.source) == (State.READY, SOURCE)
    assert (waiting.id, waiting.source, waiting.metadata) == (CAT, SOURCE, {})


_AN_UPLOAD = f"""INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch,
    job_id, generation, claim, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive,
    delete_original, adopted)
VALUES ('{CAT}', '{SOURCE}', 'queued', 'default', '{{}}', 1, 0, 0, '', 0, 1, 0, 0, 1, 1, 1, false, false,
    false)"""
_BODY = orjson.dumps(
    {"seq": 0, "kind": "ready", "id": str(CAT), "source": SOURCE, "recipe": "default", "metadata": {}}
    | {"time_ms": 1, "attempts": 0, "error_code": None, "error_message": None, "original": None}
    | {"variants": [], "original_kept": False, "entry": None}
).decode()
