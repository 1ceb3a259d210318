"""A catalog that cannot be written, or is not the file any more that was opened, says so by name."""

import os
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import State
from storage.catalog.sqlite_errors import FileCondition
from storage.errors import CatalogUnavailable
from tests.conftest import url_of
from tests.support.catalogs import take, upload, upload_event
from tests.support.disks import fill, make_read_only, small_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", mib=4) as folder:
        yield folder


@pytest.fixture
async def on_disk(disk: Path, migrated: Path) -> AsyncIterator[Catalog]:
    shutil.copy(migrated, disk / "catalog.db")
    async with open_catalog(url_of(disk / "catalog.db")) as catalog:
        yield catalog


def test_a_lack_of_files_is_not_called_one_of_rights(path: Path) -> None:
    condition = FileCondition(path)
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        with pytest.raises(sqlite3.OperationalError) as refused:
            sqlite3.connect(path).execute("CREATE TABLE one (number)")
        said = str(condition.named(refused.value))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))

    assert said.endswith("(Too many open files): raise the limit of open files (LimitNOFILE, ulimit -n)")


def _delete(path: Path) -> None:
    path.unlink()


def _move_another_there(path: Path) -> None:
    other = path.with_name("restored.db")
    shutil.copy(path, other)
    os.replace(other, path)


@pytest.mark.parametrize("exchange", [_delete, _move_another_there])
async def test_nothing_is_recorded_in_a_file_that_nobody_sees_any_more(
    catalog: Catalog, path: Path, exchange: Callable[[Path], None]
) -> None:
    exchange(path)

    with pytest.raises(CatalogUnavailable, match=f"{path} was exchanged under this worker"):
        await take(catalog, upload_event(1))
    problem = await catalog.database.problem()
    assert problem is not None
    assert "restart the worker" in problem


async def test_a_catalog_that_is_back_where_it_was_is_written_again(catalog: Catalog, path: Path) -> None:
    away = path.rename(path.with_name("away.db"))
    with pytest.raises(CatalogUnavailable):
        await take(catalog, upload_event(1))
    away.rename(path)

    await take(catalog, upload_event(1))
    assert (await upload(catalog)).state is State.QUEUED
    assert await catalog.database.problem() is None


async def test_a_full_disk_under_the_catalog_is_reported_until_there_is_room(
    on_disk: Catalog, disk: Path
) -> None:
    assert await on_disk.database.problem() is None
    fill(disk / "filler")
    with pytest.raises(CatalogUnavailable, match="is full"):
        await take(on_disk, *(upload_event(ms, uuid4(), f"uploads/{ms}" + "long" * 200) for ms in range(100)))
    with pytest.raises(CatalogUnavailable, match=str(disk)):
        await on_disk.database.problem()
    (disk / "filler").unlink()

    assert await on_disk.database.problem() is None
    await take(on_disk, upload_event(1000))


async def test_a_catalog_on_a_disk_that_is_mounted_for_reading_is_named(disk: Path, migrated: Path) -> None:
    shutil.copy(migrated, disk / "catalog.db")
    make_read_only(disk)

    with pytest.raises(CatalogUnavailable, match=f"{disk}/catalog.db cannot be written"):
        async with open_catalog(url_of(disk / "catalog.db")) as catalog:
            await catalog.database.check_writable()


def test_a_catalog_that_a_restore_exchanges_while_it_is_opened_is_to_be_opened_again(
    migrated: Path, path: Path
) -> None:
    shutil.copy(migrated, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as opened:
        opened.execute("PRAGMA journal_mode=DELETE")  # as it is while it is replaced
        opened.execute("SELECT count(*) FROM kv").fetchone()
        _move_another_there(path)

        with (
            pytest.raises(CatalogUnavailable, match="exchanged while it was opened"),
            FileCondition(path).watched(),
        ):
            opened.execute("PRAGMA journal_mode=WAL")
