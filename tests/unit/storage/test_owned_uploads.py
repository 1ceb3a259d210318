"""Whose uploads are: also of rows that a version wrote which knew no owners."""

from pathlib import Path

import pytest
from sqlalchemy import text

from storage.catalog import schema
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.reading import UploadFilter, open_reader
from storage.catalog.records import Upload
from tests.conftest import url_of
from tests.support.catalogs import CAT, ON_BOTH, SOURCE, outbox_of, take, upload, upload_event, work
from tests.support.old_catalogs import migrations_up_to

pytestmark = ON_BOTH

# As a worker of the version before inserts a row: it names no column that it does not know.
_AN_UPLOAD = f"""INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch,
    job_id, generation, claim, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive,
    delete_original, adopted)
VALUES ('{CAT}', '{SOURCE}', 'queued', 'default', '{{}}', 1, 0, 0, '', 0, 1, 0, 0, 1, 1, 1, false, false,
    false)"""


async def write(catalog: Catalog, statement: str) -> None:
    async with catalog.database.writing() as connection:
        await connection.execute(text(statement))


async def of_owner(url: str, owner: str) -> list[Upload]:
    async with open_reader(url) as reader:
        return list(await reader.page(UploadFilter(owner=owner), None, 10))


async def test_an_upload_of_the_version_before_is_its_folders(catalog: Catalog, catalog_url: str) -> None:
    await write(catalog, _AN_UPLOAD)

    assert (await upload(catalog)).owner == "2026"
    assert [found.id for found in await of_owner(catalog_url, "2026")] == [CAT]


async def test_a_change_by_the_version_before_leaves_the_owner(catalog: Catalog, catalog_url: str) -> None:
    await write(catalog, _AN_UPLOAD)
    await write(catalog, "UPDATE uploads SET owner = 'mia'")
    await write(catalog, "UPDATE uploads SET state = 'failed', error_code = 'corrupt_image', changed_ms = 7")

    assert [found.changed_ms for found in await of_owner(catalog_url, "mia")] == [7]
    assert await of_owner(catalog_url, "2026") == []


async def test_the_longest_folder_may_own(catalog: Catalog, catalog_url: str) -> None:
    folder = "\N{SNOWMAN}" * 85  # 255 bytes, more characters than an event may name
    await take(catalog, upload_event(1, CAT, f"uploads/{folder}/{'x' * 255}/{'y' * 255}/{'z' * 200}"))

    assert [found.owner for found in await of_owner(catalog_url, folder)] == [folder]


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> str:
    """Where there is no catalog yet."""
    if database_kind == "sqlite":
        return url_of(tmp_path / "old.db")
    return str(request.getfixturevalue("postgres_url"))


async def test_a_catalog_of_the_version_before_is_migrated_with_its_uploads(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = migrations_up_to("1001", tmp_path / "migrations")
    with monkeypatch.context() as old:
        old.setattr(schema, "MIGRATIONS", before)
        old.setattr(schema, "SCHEMAS", ("1000", "1001"))
        async with open_catalog(empty_url) as catalog:
            await write(catalog, _AN_UPLOAD)
            await write(catalog, "INSERT INTO outbox (body, made_ms) VALUES ('no JSON at all', 1)")

    async with open_catalog(empty_url, migrate=True) as catalog:
        assert (await upload(catalog)).owner == "2026"
        assert [found.id for found in await of_owner(empty_url, "2026")] == [CAT]
        await work(catalog)
        assert [message.id for message in await outbox_of(catalog)] == [CAT]
