"""Quick reads of a file: beside a writer or alone, without writing, and never of another file."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.reading import UploadFilter, open_reader
from storage.errors import CatalogDamaged, CatalogTooOld, CatalogUnavailable, NoCatalog
from tests.conftest import url_of
from tests.support.catalogs import CAT, take, upload_event
from tests.support.old_catalogs import NOW


@pytest.fixture
async def path(migrated: Path, tmp_path: Path) -> Path:
    """The file of a catalog with an upload that nobody has open; its log is gone."""
    path = Path(shutil.copy(migrated, tmp_path / "catalog.db"))
    async with open_catalog(url_of(path)) as catalog:
        await take(catalog, upload_event(1))
    assert not path.with_name("catalog.db-wal").exists()
    return path


async def test_a_catalog_that_nobody_has_open_is_read(path: Path) -> None:
    async with open_reader(url_of(path)) as reader:
        assert await reader.upload(CAT) is not None


async def test_a_reader_writes_nothing(path: Path) -> None:
    before = path.read_bytes()
    async with open_reader(url_of(path)) as reader:
        await reader.page(UploadFilter(), None, 10)

    assert path.read_bytes() == before


async def test_a_catalog_that_is_read_is_still_copied_and_moved_away_whole(path: Path) -> None:
    async with open_reader(url_of(path)) as reader:
        await reader.upload(CAT)
    async with open_catalog(url_of(path)) as catalog:
        await take(catalog, upload_event(2, metadata="later"))

    with closing(sqlite3.connect(path)) as alone:
        assert alone.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_nothing_is_read_of_a_file_that_was_put_in_its_place(path: Path, tmp_path: Path) -> None:
    async with open_reader(url_of(path)) as reader:
        assert await reader.upload(CAT) is not None
        shutil.copy(path, tmp_path / "other.db")
        os.replace(tmp_path / "other.db", path)

        with pytest.raises(CatalogUnavailable, match="another file lies there"):
            await reader.upload(CAT)
        path.unlink()
        with pytest.raises(CatalogUnavailable, match="deleted or moved away"):
            await reader.upload(CAT)


async def test_damage_is_said_as_damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(CatalogDamaged, match="`media doctor` says what to do"):
        async with open_reader(url_of(path)) as reader:
            await reader.upload(CAT)


async def test_no_catalog_is_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoCatalog):
        async with open_reader(url_of(tmp_path / "catalog.db")):
            pass

    assert list(tmp_path.iterdir()) == []


async def test_a_catalog_of_an_older_schema_is_not_read(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '1001'")

    with pytest.raises(CatalogTooOld, match=f"to {NOW} is pending"):
        async with open_reader(url_of(path)):
            pass


async def test_a_query_that_fails_leaves_no_connection_that_is_used_again(
    catalog: Catalog, catalog_url: str
) -> None:
    async with open_reader(catalog_url) as reader:
        async with catalog.database.writing() as connection:
            await connection.exec_driver_sql("ALTER TABLE uploads RENAME TO elsewhere")
        with pytest.raises(CatalogUnavailable, match="no such table"):
            await reader.upload(CAT)
        async with catalog.database.writing() as connection:
            await connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO uploads")

        assert await reader.upload(CAT) is None
