"""A folder of copies: each is there whole or not at all."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.scale import fill
from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.keep import Keep
from storage.backups.making import check_copy, make_copy
from storage.backups.manifest import MANIFEST, dump_manifest
from storage.backups.places import check_apart
from storage.catalog.copying import copy_file
from storage.catalog.opening import Catalog
from storage.catalog.schema import newest
from storage.errors import CopyDamaged, CopyRefused
from tests.support.catalogs import take, upload_event, work
from tests.support.rights import without_roots_rights
from tests.support.workplace import eventually


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[BackupFolder]:
    """A folder that this test has to itself."""
    opened = BackupFolder(tmp_path / "backup")
    with opened.alone():
        yield opened


@pytest.fixture
async def copy(catalog: Catalog, folder: BackupFolder) -> BackupCopy:
    """The copy of a catalog with one ready upload."""
    await take(catalog, upload_event(5, colour="red"))
    await work(catalog)
    return await make_copy(catalog.database, folder, "1.2.3")


async def test_a_copy_says_what_it_is_of_and_up_to_where(catalog: Catalog, copy: BackupCopy) -> None:
    manifest = copy.manifest

    assert (manifest.catalog, manifest.schema, manifest.version) == (catalog.id, newest(), "1.2.3")
    assert (manifest.seq, manifest.uploads) == (1, {"ready": 1})
    assert (manifest.rows["uploads"], manifest.rows["variants"], manifest.wrong_totals) == (1, 2, 0)
    assert copy.path.name == manifest.time.strftime("%Y-%m-%dT%H%M%SZ")
    assert {path.name for path in copy.path.iterdir()} == {"manifest.json", "catalog.db", ".media-root.json"}
    await check_copy(copy)


async def test_only_its_owner_can_read_a_copy(copy: BackupCopy) -> None:
    files = [copy.path, *copy.path.iterdir()]

    assert {path.stat().st_mode & 0o077 for path in files} == {0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["theirs", "theirs/new"])
async def test_root_makes_no_copies_in_the_folder_of_another_user(tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1235)

    with pytest.raises(CopyRefused, match="belongs to the user 1234"), BackupFolder(tmp_path / name).alone():
        pass
    assert list((tmp_path / "theirs").iterdir()) == []


async def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup/.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(CopyRefused, match="no copy can be made"), BackupFolder(tmp_path / "backup").alone():
        pass
    assert not (tmp_path / "elsewhere").exists()


async def test_the_newest_copy_comes_first_and_two_of_a_second_have_two_names(
    catalog: Catalog, folder: BackupFolder, copy: BackupCopy
) -> None:
    later = await make_copy(catalog.database, folder, "1.2.3")

    assert [one.path for one in folder.copies()] == [later.path, copy.path]


@pytest.mark.parametrize("name", ["catalog.db", "manifest.json"])
async def test_a_copy_that_was_changed_since_is_damaged(
    folder: BackupFolder, copy: BackupCopy, name: str
) -> None:
    with (copy.path / name).open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(b"\0\0\0\0")
    [found] = folder.copies() or [replace(copy, manifest=replace(copy.manifest, sha256=""))]

    with pytest.raises(CopyDamaged, match=r"2026|20\d\d-\d\d-\d\d"):
        await check_copy(found)


async def test_what_a_killed_backup_has_left_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / "backup/.unfinished-1234"
    left.mkdir(parents=True)
    (left / "catalog.db.part").touch()

    with BackupFolder(tmp_path / "backup").alone():
        assert not left.exists()


async def test_two_backups_at_once_are_refused(folder: BackupFolder) -> None:
    with pytest.raises(CopyRefused, match="another backup is made"), BackupFolder(folder.path).alone():
        pass


async def test_copies_of_another_catalog_are_not_removed(folder: BackupFolder, copy: BackupCopy) -> None:
    another = replace(copy, manifest=replace(copy.manifest, catalog="another"))

    assert folder.prune(another, Keep(0, 0)) == []
    assert copy.path.is_dir()


async def test_the_copy_that_was_just_made_is_not_removed_whatever_time_others_have(
    catalog: Catalog, folder: BackupFolder, copy: BackupCopy
) -> None:
    older = replace(copy, manifest=replace(copy.manifest, time_ms=copy.manifest.time_ms - 5000))
    (copy.path / MANIFEST).write_bytes(dump_manifest(older.manifest))
    newer = await make_copy(catalog.database, folder, "1.2.3")

    assert folder.prune(older, Keep(0, 0)) == []
    assert folder.prune(newer, Keep(0, 0)) == [copy.path.name]


async def test_a_copy_that_cannot_be_read_or_removed_is_told_and_hides_no_other(
    catalog: Catalog, folder: BackupFolder, copy: BackupCopy
) -> None:
    shut, left = folder.path / "2026-01-01T000000Z", folder.path / ".removed-1/x"
    shut.mkdir(mode=0)
    left.mkdir(parents=True)
    left.parent.chmod(0o500)
    told: list[Path] = []
    again = BackupFolder(folder.path, lambda path, _: told.append(path))

    with without_roots_rights():
        assert [one.path for one in again.copies()] == [copy.path]
        again.remove_unfinished()

        with pytest.raises(PermissionError):  # no older copy is taken for the newest one
            folder.copies()
    left.parent.chmod(0o700)
    assert told == [shut, left.parent]


async def test_a_damaged_copy_counts_as_none(
    catalog: Catalog, folder: BackupFolder, copy: BackupCopy
) -> None:
    newer = await make_copy(catalog.database, folder, "1.2.3")
    aside = folder.set_aside(newer)

    assert folder.prune(copy, Keep(1, 1)) == []
    assert [one.path for one in folder.copies()] == [copy.path]
    assert aside.is_dir()


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)

    said = pytest.raises(CopyRefused, match=f"{shut} cannot be written")
    with without_roots_rights(), said, BackupFolder(shut).alone():
        pass
    with (
        pytest.raises(CopyRefused, match="nowhere is not there"),
        BackupFolder(tmp_path / "nowhere/x").alone(),
    ):
        pass


def test_copies_lie_apart_from_the_storage(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "media")
    for inside in ("media", "media/x", "link/x"):
        with pytest.raises(CopyRefused, match="lies inside the storage"):
            check_apart(tmp_path / inside, f"file:{tmp_path}/media", None)

    check_apart(tmp_path, f"file:{tmp_path}/media", None)
    check_apart(tmp_path / "media", "s3://bucket", None)
    with pytest.raises(CopyRefused, match="is the catalog"):
        check_apart(tmp_path / "catalog.db", "s3://bucket", tmp_path / "catalog.db")


async def test_a_copy_has_the_time_of_its_catalogs_clock(catalog: Catalog, copy: BackupCopy) -> None:
    now = datetime.fromtimestamp(catalog.database.now_ms() / 1000, UTC)

    assert abs((now - copy.manifest.time).total_seconds()) < 60


def test_a_catalog_that_somebody_has_for_himself_is_waited_for(
    migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Path(shutil.copy(migrated, tmp_path / "catalog.db"))
    monkeypatch.setattr("storage.catalog.copying._BUSY_S", 0.1)
    with closing(sqlite3.connect(catalog, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(sqlite3.OperationalError, match="locked"):
            copy_file(catalog, tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy*"))


def test_a_copy_that_is_to_stop_stops_and_leaves_nothing(migrated: Path, tmp_path: Path) -> None:
    catalog = Path(shutil.copy(migrated, tmp_path / "catalog.db"))
    fill(catalog, 2000)

    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        copy_file(catalog, tmp_path / "copy.db", stopped=lambda: True)
    assert not list(tmp_path.glob("copy*"))


async def test_a_backup_that_is_cancelled_ends_at_once_and_leaves_no_copy(
    catalog: Catalog, folder: BackupFolder, tmp_path: Path
) -> None:
    fill(tmp_path / "catalog.db", 20_000)
    making = asyncio.create_task(make_copy(catalog.database, folder, "1.2.3"))
    await asyncio.to_thread(eventually, lambda: bool(list(folder.path.glob(".unfinished-*/*.part"))))
    making.cancel()

    with pytest.raises(asyncio.CancelledError):
        await making
    assert [path.name for path in folder.path.iterdir()] == [".lock"]
