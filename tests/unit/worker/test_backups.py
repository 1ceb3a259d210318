"""Backups that a worker makes by itself."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.manifest import MANIFEST, dump_manifest
from storage.catalog.backup_notes import BackupNotes
from storage.catalog.opening import Catalog
from storage.errors import CopyBusy, CopyRefused, StorageError
from worker.backups import CHECKED_AFTER_MS, back_up_by_itself, is_expected_in, note_failure
from worker.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        backup=str(tmp_path / "backup"),
        storage_url=f"file:{tmp_path}/media",
        catalog_url=f"sqlite+aiosqlite:///{tmp_path}/catalog.db",
        backup_keep="2h",
    )


async def made(settings: Settings, catalog: Catalog, since_ms: int | None = None) -> list[str]:
    """What it logs of a backup that was asked for at that time, or now."""
    since = catalog.database.now_ms() if since_ms is None else since_ms
    with capture_logs() as logs:
        await back_up_by_itself(settings, catalog, since_ms=since)
    return [line["event"] for line in logs]


def fails(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def names(settings: Settings) -> list[str]:
    return [copy.path.name for copy in BackupFolder(Path(settings.backup)).copies()]


async def test_a_copy_is_made_and_noted_and_older_ones_of_the_hour_go(
    settings: Settings, catalog: Catalog
) -> None:
    for _ in range(3):
        assert "backup_made" in await made(settings, catalog)

    noted = await BackupNotes(catalog.database).last()
    assert noted is not None
    assert (noted.name, noted.folder) == (names(settings)[0], settings.backup)
    assert 1 <= len(names(settings)) <= 2  # an hour may have begun meanwhile


async def test_none_is_made_where_another_worker_has_since(settings: Settings, catalog: Catalog) -> None:
    asked_ms = catalog.database.now_ms()

    assert "backup_made" in await made(settings, catalog, asked_ms)
    assert await made(settings, catalog, asked_ms) == []


async def test_a_copy_in_another_folder_is_none_of_the_workers(
    settings: Settings, catalog: Catalog, tmp_path: Path
) -> None:
    asked_ms, elsewhere = catalog.database.now_ms(), tmp_path / "elsewhere"
    await made(settings.model_copy(update={"backup": str(elsewhere)}), catalog, asked_ms)

    assert (is_expected_in(settings, elsewhere), is_expected_in(settings, tmp_path / "backup")) == (
        False,
        True,
    )
    assert is_expected_in(settings.model_copy(update={"backup": ""}), elsewhere)
    assert "backup_made" in await made(settings, catalog, asked_ms)


async def test_the_newest_copy_is_read_again_once_a_day(settings: Settings, catalog: Catalog) -> None:
    notes = BackupNotes(catalog.database)
    found = [await made(settings, catalog) for _ in range(3)]
    checked = await notes.checked()
    assert checked is not None
    await notes.note_check(replace(checked, time_ms=checked.time_ms - CHECKED_AFTER_MS))
    found.append(await made(settings, catalog))

    assert ["backup_checked" in events for events in found] == [False, True, False, True]
    assert checked.problem is None


async def test_a_damaged_copy_is_told_and_set_aside_and_another_one_made(
    settings: Settings, catalog: Catalog
) -> None:
    await made(settings, catalog)
    [bad] = names(settings)
    os.truncate(Path(settings.backup, bad, "catalog.db"), 5000)

    assert await made(settings, catalog) == ["backup_damaged", "backup_made"]

    checked = await BackupNotes(catalog.database).checked()
    assert checked is not None
    assert checked.name == bad
    assert "is damaged" in str(checked.problem)
    assert len(names(settings)) == 1
    assert Path(settings.backup, f"{bad}.damaged").is_dir()


async def test_a_copy_that_cannot_be_read_is_told_and_another_one_made(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(settings, catalog)
    [bad] = names(settings)
    monkeypatch.setattr(BackupCopy, "check_bytes", fails)  # as where a sector of the disk is bad

    assert await made(settings, catalog) == ["backup_unreadable", "backup_made"]

    checked = await BackupNotes(catalog.database).checked()
    assert checked is not None
    assert checked.name == bad
    assert "cannot be read (Input/output error)" in str(checked.problem)
    assert not list(Path(settings.backup).glob("*.damaged"))


async def test_a_folder_of_copies_that_cannot_be_listed_is_refused(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackupFolder, "copies", fails)

    with pytest.raises(CopyRefused, match=r"no copy can be made in .*: Input/output error"):
        await made(settings, catalog)


async def test_a_copy_that_was_just_made_stays_where_another_is_of_a_clock_that_ran_ahead(
    settings: Settings, catalog: Catalog
) -> None:
    settings = settings.model_copy(update={"backup_keep": "1h"})
    await made(settings, catalog)
    [copy] = BackupFolder(Path(settings.backup)).copies()
    ahead = replace(copy.manifest, time_ms=copy.manifest.time_ms + 40 * 86_400_000)
    (copy.path / MANIFEST).write_bytes(dump_manifest(ahead))
    for _ in range(2):
        await made(settings, catalog)

    notes = BackupNotes(catalog.database)
    noted, checked = await notes.last(), await notes.checked()
    assert noted is not None
    assert {copy.path.name, noted.name} <= set(names(settings))
    assert checked is not None
    assert checked.name != copy.path.name


async def test_a_worker_without_the_setting_makes_none(settings: Settings, catalog: Catalog) -> None:
    assert await made(settings.model_copy(update={"backup": ""}), catalog) == ["backup_not_here"]


async def test_a_backup_beside_another_one_is_refused(settings: Settings, catalog: Catalog) -> None:
    with BackupFolder(Path(settings.backup)).alone(), pytest.raises(CopyRefused, match="another backup"):
        await made(settings, catalog)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(CopyRefused("there is no room"), "there is no room"), (CopyBusy("another one is made"), None)],
)
async def test_why_none_was_made_is_logged_and_noted_unless_somebody_else_makes_one(
    catalog: Catalog, error: StorageError, reason: str | None
) -> None:
    with capture_logs() as logs:
        await note_failure(catalog, error)

    failed = await BackupNotes(catalog.database).failed()
    assert [(line["event"], line["reason"]) for line in logs] == [("backup_failed", str(error))]
    assert (failed and failed.reason) == reason
