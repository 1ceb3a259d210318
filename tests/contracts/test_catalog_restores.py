"""A copy takes the place of a catalog, of whatever kind: at once, and the old one is kept."""

import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import ColumnElement, Table, select, text, true

from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.making import make_copy
from storage.backups.restoring import CatalogRestore, Replacement
from storage.catalog.address import Address
from storage.catalog.database import schema_of
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import State
from storage.catalog.restored import RESTORED, read_replaced
from storage.catalog.schema import SCHEMAS
from storage.catalog.tables import kv, outbox, uploads, variants
from storage.errors import CatalogUnavailable, CopyDamaged, CopyRefused
from tests.support.catalogs import CAT, ON_BOTH, outbox_of, take, upload, upload_event, work
from tests.support.old_catalogs import NEXT, NOW, next_migrations
from tests.support.restores import restoring

pytestmark = ON_BOTH
NEW = UUID("11111111-0000-4000-8000-000000000000")
SAID: dict[str, Any] = {
    "tab": "a\tb",
    "lines": "a\nb\\n",
    "null": None,
    "text": '"ü',
    "of postgres": "\\N \\.",
}
Rows = list[Sequence[Any]]


def _counts(table: Table) -> ColumnElement[bool]:
    """Which rows are compared: all but that by which a restore marks what it made."""
    return kv.c.name != RESTORED if table is kv else true()


async def rows(catalog: Catalog) -> dict[str, Rows]:
    async with catalog.database.reading() as connection:
        return {
            table.name: [tuple(row) for row in await connection.execute(query)]
            for table in (uploads, variants, outbox, kv)
            for query in [select(table).where(_counts(table)).order_by(*table.primary_key)]
        }


@pytest.fixture
async def before(catalog: Catalog) -> dict[str, Rows]:
    """The rows of a catalog with one ready upload and one that waits."""
    await take(catalog, upload_event(5, **SAID), upload_event(6, uuid4(), "uploads/b.jpg"))
    await work(catalog)
    return await rows(catalog)


@pytest.fixture
async def copy(catalog: Catalog, before: dict[str, Rows], tmp_path: Path) -> BackupCopy:
    folder = BackupFolder(tmp_path / "backup")
    with folder.alone():
        return await make_copy(catalog.database, folder, "1.2.3")


@pytest.fixture
async def changed(catalog: Catalog, copy: BackupCopy, catalog_url: str, tmp_path: Path) -> str:
    """The URL of the catalog, with one upload more than the copy, and closed if it is a file."""
    await take(catalog, upload_event(7, NEW, "uploads/new.jpg"))
    await work(catalog, NEW)
    if not Address(catalog_url).is_file:
        return catalog_url
    path = tmp_path / "closed/catalog.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(tmp_path / "catalog.db", path)
    return f"sqlite+aiosqlite:///{path}"


async def test_the_copy_takes_the_place_of_the_catalog_with_all_its_rows(
    changed: str, copy: BackupCopy, before: dict[str, Rows]
) -> None:
    async with restoring(changed, copy) as (done, _):
        pass

    async with open_catalog(changed, create=False) as catalog:
        assert await rows(catalog) == before
        assert (await upload(catalog)).metadata == SAID
        assert await catalog.outbox.given_seq() == copy.manifest.seq
        assert await catalog.reports.check_totals() == []
        assert (await catalog.reports.states())[State.READY] == 1
    assert "before_restore_20261129t120000" in str(done.aside).replace("-", "_").lower()


async def test_a_copy_of_an_older_schema_is_migrated_before_it_takes_its_place(
    changed: str, copy: BackupCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.schema.MIGRATIONS", next_migrations(tmp_path))
    monkeypatch.setattr("storage.catalog.schema.SCHEMAS", (*SCHEMAS, NEXT))

    async with restoring(changed, copy):
        pass

    async with open_catalog(changed, create=False) as catalog:
        assert await schema_of(catalog.database) == NEXT
        assert (await upload(catalog)).metadata == SAID
        assert await catalog.reports.check_totals() == []


async def test_a_restored_catalog_goes_on_as_any_other(changed: str, copy: BackupCopy) -> None:
    async with restoring(changed, copy) as (_, candidate):
        await candidate.outbox.begin_above(500)

    async with open_catalog(changed, create=False) as catalog:
        await take(catalog, upload_event(8, NEW, "uploads/new.jpg"), upload_event(9))
        await work(catalog, NEW)
        await work(catalog)
        assert [message.seq for message in await outbox_of(catalog, after=400)] == [501, 502]
        assert await catalog.reports.check_totals() == []
        numbers = [row[0] for row in (await rows(catalog))["uploads"]]
    assert len(set(numbers)) == 3


@pytest.mark.sqlite
async def test_the_old_file_is_kept_whole(changed: str, copy: BackupCopy) -> None:
    async with restoring(changed, copy) as (done, _):
        pass

    async with open_catalog(f"sqlite+aiosqlite:///{done.aside}", create=False) as old:
        assert (await upload(old, NEW)).state is State.READY
    left = sorted(path.name for path in Address(changed).path.parent.iterdir() if "restor" in path.name)
    assert left == [Path(str(done.aside)).name]


async def test_each_catalog_that_was_replaced_is_kept(
    changed: str, copy: BackupCopy, database_kind: str
) -> None:
    kept = []
    for moment in ("20261129T120000", "20261129T120001"):
        async with restoring(changed, copy, moment) as (done, _):
            pass
        kept.append(str(done.aside))

    assert [await count_uploads(changed, place, database_kind) for place in kept] == [3, 2]


async def count_uploads(url: str, place: str, kind: str) -> int:
    """How many uploads the catalog has that was kept there."""
    if kind == "sqlite":
        with closing(sqlite3.connect(place)) as database:
            return int(database.execute("SELECT count(*) FROM uploads").fetchone()[0])
    [schema] = re.findall("media_before_restore_[0-9t_]*", place)
    async with open_catalog(url, create=False) as catalog, catalog.database.reading() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {schema}.uploads"))).scalar_one())


async def test_a_restore_that_fails_leaves_the_catalog_as_it_was(changed: str, copy: BackupCopy) -> None:
    async def fail() -> None:
        async with restoring(changed, copy) as (_, candidate):
            await candidate.outbox.begin_above(500)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()

    async with open_catalog(changed, create=False) as catalog:
        assert (await upload(catalog, NEW)).state is State.READY
        assert await catalog.outbox.given_seq() == 2
    async with restoring(changed, copy):
        pass  # nothing of the one that failed is in its way


async def test_a_damaged_copy_leaves_the_catalog_as_it_was(changed: str, copy: BackupCopy) -> None:
    fewer = {**copy.manifest.rows, "uploads": 7}
    wrong = replace(copy, manifest=replace(copy.manifest, rows=fewer))
    copy.file.write_bytes(copy.file.read_bytes()[:-100])

    with pytest.raises((CopyDamaged, CatalogUnavailable)):
        async with restoring(changed, wrong) as (_, candidate):
            await candidate.reports.check_totals()

    async with open_catalog(changed, create=False) as catalog:
        assert (await upload(catalog, NEW)).state is State.READY


@pytest.mark.sqlite
async def test_the_new_file_belongs_to_whom_the_old_one_did(changed: str, copy: BackupCopy) -> None:
    path = Address(changed).path
    path.chmod(0o640)
    owner = (1234, 1235) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)

    async with restoring(changed, copy):
        pass

    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*owner, 0o640)


@pytest.mark.sqlite
async def test_a_catalog_that_somebody_has_open_is_not_replaced(changed: str, copy: BackupCopy) -> None:
    async with open_catalog(changed, create=False) as catalog:
        with pytest.raises(CatalogUnavailable, match="is in use"):
            async with restoring(changed, copy):
                pass
        assert (await upload(catalog, NEW)).state is State.READY


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> str:
    """Where no catalog is yet."""
    if database_kind == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite+aiosqlite:///{tmp_path}/elsewhere/catalog.db"


async def test_where_there_is_no_catalog_the_copy_becomes_it(empty_url: str, copy: BackupCopy) -> None:
    async with CatalogRestore(Address(empty_url), copy).present() as present:
        assert present is None
    async with restoring(empty_url, copy) as (done, _):
        pass

    assert done.aside is None
    async with open_catalog(empty_url, create=False) as catalog:
        assert (await upload(catalog, CAT)).state is State.READY


async def test_a_copy_of_a_newer_schema_or_of_another_kind_is_refused(
    copy: BackupCopy, catalog_url: str, database_kind: str
) -> None:
    newer = replace(copy, manifest=replace(copy.manifest, schema="9999"))
    other = "postgresql://x@h/db" if database_kind == "sqlite" else "sqlite+aiosqlite:///x.db"

    with pytest.raises(CopyRefused, match=rf"knows none after {NOW}: install the version 1\.2\.3"):
        await CatalogRestore(Address(catalog_url), newer).check()
    with pytest.raises(CopyRefused, match="media migrate-catalog moves it"):
        await CatalogRestore(Address(other), copy).check()
    await CatalogRestore(Address(catalog_url), copy).check()


@pytest.fixture
async def first_at_work(changed: str, copy: BackupCopy) -> AsyncIterator[Replacement]:
    """A restore that is not over."""
    async with restoring(changed, copy) as (done, candidate):
        await candidate.outbox.begin_above(500)
        yield done


@pytest.mark.usefixtures("first_at_work")
async def test_a_second_restore_is_refused_while_the_first_is_at_work(changed: str, copy: BackupCopy) -> None:
    with pytest.raises(CopyRefused, match=r"another restore of the catalog .* is at work: wait"):
        async with restoring(changed, copy):
            pass

    async with open_catalog(changed, create=False) as catalog:
        assert await catalog.outbox.given_seq() == 2  # the old one


async def test_a_restore_that_was_refused_leaves_the_first_one_as_it_was(
    changed: str, copy: BackupCopy
) -> None:
    async with restoring(changed, copy) as (_, candidate):
        with pytest.raises(CopyRefused):
            async with restoring(changed, copy):
                pass
        await candidate.outbox.begin_above(500)

    async with open_catalog(changed, create=False) as catalog:
        assert await catalog.outbox.given_seq() == 500
        assert (await upload(catalog)).metadata == SAID
    async with restoring(changed, copy):
        pass  # the next one is let in again


async def test_a_catalog_remembers_which_others_it_has_replaced(changed: str, copy: BackupCopy) -> None:
    async with restoring(changed, copy, replaced={"b", "a"}):
        pass

    async with open_catalog(changed, create=False) as catalog:
        assert await read_replaced(catalog.database) == {"a", "b"}


async def test_catalogs_that_were_replaced_in_the_same_second_are_both_kept(
    changed: str, copy: BackupCopy, database_kind: str
) -> None:
    kept = []
    for _ in range(2):
        async with restoring(changed, copy) as (done, _):
            pass
        kept.append(str(done.aside))

    assert [await count_uploads(changed, place, database_kind) for place in kept] == [3, 2]
