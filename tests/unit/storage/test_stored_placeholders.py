"""The placeholder of an upload is in its row and in its messages, and two versions work side by side."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from storage.catalog import schema
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.reading import open_reader
from storage.catalog.records import Original
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SOURCE,
    THUMBHASH,
    claim,
    commit,
    delete_event,
    failed,
    outbox_of,
    ready,
    take,
    upload,
    upload_event,
    work,
)
from tests.support.old_catalogs import migrations_up_to

pytestmark = ON_BOTH

BLURHASH = "LEHV6nWB2yk8pyo0adR*.7kCMdnj"


async def made(catalog: Catalog, ms: int, **changes: Any) -> Original:
    """What is known of an upload that was made with these changes."""
    await take(catalog, upload_event(ms))
    outcome = ready(await claim(catalog))
    await commit(catalog, replace(outcome, original=replace(outcome.original, **changes)))
    return await read(catalog)


async def read(catalog: Catalog) -> Original:
    """What the row says, which the newest message says, too."""
    known, message = (await upload(catalog)).original, (await outbox_of(catalog))[-1]
    assert known is not None
    assert known == message.original
    return known


async def test_a_row_has_the_placeholder_and_so_has_the_message(catalog: Catalog) -> None:
    known = await made(catalog, 1)

    assert (known.thumbhash, known.blurhash) == (THUMBHASH, None)


async def test_a_blurhash_comes_in_the_place_of_a_thumbhash(catalog: Catalog) -> None:
    await made(catalog, 1)
    known = await made(catalog, 2, thumbhash=None, blurhash=BLURHASH)

    assert (known.thumbhash, known.blurhash) == (None, BLURHASH)


async def test_an_event_that_comes_late_is_answered_with_the_placeholder(catalog: Catalog) -> None:
    await made(catalog, 5)
    taken = await take(catalog, upload_event(1))

    [message] = taken.messages
    assert message.original is not None
    assert message.original.thumbhash == THUMBHASH


async def test_an_upload_that_fails_keeps_the_placeholder_of_what_is_served(catalog: Catalog) -> None:
    await made(catalog, 1)
    await take(catalog, upload_event(2))
    await commit(catalog, failed(await claim(catalog)))

    assert (await read(catalog)).thumbhash == THUMBHASH


async def test_a_row_has_what_could_make_no_placeholder_and_no_message_has(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    outcome = ready(await claim(catalog))
    tried = replace(outcome.original, thumbhash=None, placeholder_tried="thumbhash 1")
    await commit(catalog, replace(outcome, original=tried))
    known, [message] = (await upload(catalog)).original, await outbox_of(catalog)

    assert known == tried
    assert message.original == replace(tried, placeholder_tried=None)


async def test_a_deleted_upload_has_no_placeholder_any_more(catalog: Catalog) -> None:
    await made(catalog, 1)
    await take(catalog, delete_event(2))
    await work(catalog)

    async with catalog.database.reading() as connection:
        [row] = await connection.execute(text("SELECT state, thumbhash, blurhash FROM uploads"))
    assert tuple(row) == ("deleted", None, None)


async def test_a_reader_tells_the_placeholder(catalog: Catalog, catalog_url: str) -> None:
    await made(catalog, 1)

    async with open_reader(catalog_url) as reader:
        found, [message] = await reader.upload(CAT), await reader.newest_messages(CAT, 1)
    assert found is not None
    assert found.original == message.original == await read(catalog)


async def test_a_worker_of_the_version_before_reads_what_this_one_writes(catalog: Catalog) -> None:
    await made(catalog, 1)
    async with catalog.database.reading() as connection:
        [[body]] = await connection.execute(text("SELECT body FROM outbox"))

    known_before = {"stamp", "sha256", "bytes", "format", "width", "height", "color"}
    assert orjson.loads(body)["original"].keys() == known_before  # with another field it would stop
    assert body.startswith('{"seq":0,"kind":"ready","id":"')


async def test_a_message_of_the_version_before_has_no_placeholder(catalog: Catalog) -> None:
    await made(catalog, 1)
    async with catalog.database.writing() as connection:
        [[body]] = await connection.execute(text("SELECT body FROM outbox"))
        older = {name: value for name, value in orjson.loads(body).items() if name != "placeholder"}
        await connection.execute(
            text("UPDATE outbox SET body = :body"), {"body": orjson.dumps(older).decode()}
        )

    [message] = await outbox_of(catalog)
    assert message.original is not None
    assert message.original.thumbhash is None


async def test_a_picture_that_the_version_before_has_replaced_has_no_placeholder_of_the_old_one(
    catalog: Catalog, catalog_url: str
) -> None:
    await made(catalog, 1)
    async with catalog.database.writing() as connection:  # its statement knows no other columns
        changes = f"sha256 = '{'c' * 64}', placeholder_tried = 'blurhash 1'"
        await connection.execute(text(f"UPDATE uploads SET {changes}"))

    async with open_reader(catalog_url) as reader:
        for found in (await upload(catalog), await reader.upload(CAT)):
            assert found is not None
            assert found.original is not None
            assert (found.original.sha256[0], found.original.thumbhash) == ("c", None)
            assert found.original.placeholder_tried is None
    assert (await made(catalog, 2)).thumbhash == THUMBHASH


# -- migrated


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> str:
    """Where there is no catalog yet."""
    if database_kind == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/old.db"
    return str(request.getfixturevalue("postgres_url"))


async def test_an_upload_of_before_has_none_until_it_is_processed_again(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = migrations_up_to("1003", tmp_path / "migrations")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", before)
        patched.setattr(schema, "SCHEMAS", ("1000", "1001", "1002", "1003"))
        async with open_catalog(empty_url) as old, old.database.writing() as connection:
            await connection.execute(text(_READY_UPLOAD))

    async with open_catalog(empty_url, migrate=True) as new:
        original = (await upload(new)).original
        assert original is not None
        assert (original.format, original.thumbhash, original.blurhash) == ("png", None, None)
        assert (await made(new, 9)).thumbhash == THUMBHASH


_READY_UPLOAD = f"""INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch,
    job_id, generation, claim, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive,
    delete_original, adopted, stamp, sha256, bytes, format, width, height)
VALUES ('{CAT}', '{SOURCE}', 'ready', 'default', '{{}}', 1, 0, 0, '', 0, 1, 0, 0, 1, 1, 1, false, false,
    false, 'stamp', '{"a" * 64}', 9, 'png', 4, 3)"""
