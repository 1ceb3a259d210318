"""A catalog under a link: everything that goes by its place goes by that of the file itself."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.catalog.opening import open_catalog
from storage.catalog.sqlite_file import log_bytes
from storage.errors import CatalogUnavailable, FileSystemUnfit
from tests.conftest import url_of
from tests.support.catalogs import take, upload_event
from tests.support.old_catalogs import NEXT, NOW, make_old, next_migrations
from worker.doctor.rows import check_catalog
from worker.settings import Settings

Link = Callable[[Path, Path], Path]


def _link_of_file(there: Path, here: Path) -> Path:
    here.mkdir()
    (here / "catalog.db").symlink_to(there / "catalog.db")
    return here / "catalog.db"


def _link_of_folder(there: Path, here: Path) -> Path:
    here.symlink_to(there)
    return here / "catalog.db"


LINKS = pytest.mark.parametrize("link", [_link_of_file, _link_of_folder])


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Where the file is."""
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def moved(there: Path, migrated: Path) -> Path:
    """Where the file is, and there is one."""
    shutil.copy(migrated, there / "catalog.db")
    return there


@LINKS
async def test_a_link_to_a_network_file_system_is_refused_by_name(
    tmp_path: Path, there: Path, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = link(there, tmp_path / "here")
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 0:8 / / rw - ext4 /dev/vda rw\n23 22 0:9 / {there} rw - nfs4 server:/share rw\n")
    monkeypatch.setattr("storage.mounts.TABLE", table)

    with pytest.raises(FileSystemUnfit, match=rf"{path} \(which is {there}/catalog.db\) is on .*\(nfs4\)"):
        async with open_catalog(url_of(path)):
            pass
    assert list(there.iterdir()) == []


@LINKS
async def test_the_log_is_that_beside_the_file(
    tmp_path: Path, moved: Path, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_catalog(url_of(link(moved, tmp_path / "here"))) as catalog:
        await take(catalog, upload_event(1))
        size = log_bytes(moved / "catalog.db")
        monkeypatch.setattr("storage.catalog.sqlite.LARGE_LOG", size - 1)

        assert size > 0
        assert "is larger than" in (catalog.database.large_log() or "")


@LINKS
async def test_the_room_is_that_of_the_disk_with_the_file(
    tmp_path: Path, volume: Path, migrated: Path, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(migrated, volume / "catalog.db")
    real, asked = shutil.disk_usage, []

    def usage(path: Path) -> object:
        asked.append(os.stat(path).st_dev)
        return real(path)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    async with open_catalog(url_of(link(volume, tmp_path / "here"))) as catalog:
        await catalog.database.check_writable()

    assert asked == [volume.stat().st_dev]


@LINKS
async def test_the_copy_before_a_migration_lies_beside_the_file(
    tmp_path: Path, there: Path, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.schema.MIGRATIONS", next_migrations(tmp_path))
    monkeypatch.setattr("storage.catalog.schema.SCHEMAS", (NOW, NEXT))
    make_old(there / "catalog.db")
    async with open_catalog(url_of(link(there, tmp_path / "here")), migrate=True) as catalog:
        assert catalog.database.migrated is not None
        assert catalog.database.migrated.copy is not None
        assert catalog.database.migrated.copy.parent == there


@LINKS
async def test_the_doctor_tries_to_write_where_the_file_is(
    tmp_path: Path, moved: Path, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = link(moved, tmp_path / "here")
    async with open_catalog(url_of(path)):
        pass
    settings = Settings(
        redis_url="redis://localhost:1/0", catalog_url=url_of(path), storage_url=f"file:{tmp_path}/media"
    )
    monkeypatch.setattr(os, "access", lambda one, _how: one != moved)
    found = {finding.what: finding async for finding in check_catalog(settings)}

    assert found["Catalog writing"].level == "error"
    assert found["Catalog writing"].detail.startswith(f"{moved} cannot be written")


async def test_a_link_to_a_file_that_is_to_come_is_a_place_for_a_new_catalog(
    tmp_path: Path, there: Path
) -> None:
    async with open_catalog(url_of(_link_of_file(there, tmp_path / "here"))) as catalog:
        assert catalog.is_new
    assert (there / "catalog.db").is_file()


@LINKS
@pytest.mark.parametrize("create", [True, False])
async def test_a_link_to_a_disk_that_is_not_mounted_is_named_and_nothing_is_made(
    tmp_path: Path, there: Path, link: Link, *, create: bool
) -> None:
    path = link(there, tmp_path / "here")
    there.rmdir()

    with pytest.raises(CatalogUnavailable, match=rf"{path} cannot be reached: .* is a link to .*mounted"):
        async with open_catalog(url_of(path), create=create):
            pass
    assert not there.exists()


@LINKS
async def test_a_link_that_leads_elsewhere_is_an_exchanged_catalog(
    tmp_path: Path, moved: Path, link: Link
) -> None:
    path = link(moved, tmp_path / "here")
    other = tmp_path / "other"
    async with open_catalog(url_of(path)) as catalog:
        await take(catalog, upload_event(1))
        shutil.copytree(moved, other)
        one = path if path.is_symlink() else path.parent
        one.unlink()
        one.symlink_to(other / "catalog.db" if one == path else other)

        with pytest.raises(CatalogUnavailable, match=f"{path} was exchanged under this worker"):
            await take(catalog, upload_event(2))
        assert "another file" in (await catalog.database.problem() or "")
