"""The folder of copies, as `media doctor` finds it: what keeps the next copy from being made, or is gone."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.backups.folder import BackupFolder
from storage.catalog.opening import open_catalog
from tests.support.disks import fill, small_disk
from worker.backups import back_up
from worker.doctor.copies import check_copies
from worker.findings import Finding
from worker.settings import Settings


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """Those of a catalog with one copy."""
    made = Settings(
        backup=str(tmp_path / "backup"),
        storage_url=f"file:{tmp_path}/media",
        catalog_url=f"sqlite+aiosqlite:///{tmp_path}/catalog.db",
    )
    async with open_catalog(made.catalog_url) as catalog:
        folder = BackupFolder(tmp_path / "backup")
        with folder.alone():
            await back_up(catalog.database, folder, None)
        yield made


def newest(settings: Settings) -> Path:
    return BackupFolder(Path(settings.backup)).copies()[0].path


async def checked(settings: Settings) -> tuple[str, str]:
    """The level and the detail of what is found; each that is not ok says what to do."""
    [found] = await check_copies(settings)
    assert isinstance(found, Finding)
    assert found.level == "ok" or found.advice
    return found.level, found.detail


async def test_a_folder_with_the_newest_copy_is_well_and_nothing_in_it_is_changed(settings: Settings) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(settings.backup).rglob("*")}

    assert await checked(settings) == (
        "ok",
        f"the newest copy {newest(settings)} is what it was when it was made",
    )
    assert {path: path.stat().st_mtime_ns for path in Path(settings.backup).rglob("*")} == before


async def test_a_newest_copy_with_a_changed_byte_is_an_error(settings: Settings) -> None:
    file = newest(settings) / "catalog.db"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)

    level, detail = await checked(settings)

    assert level == "error"
    assert "is damaged: its catalog.db is not what it was" in detail


@pytest.mark.parametrize(
    ("gone", "told"), [("backup/2*", "the newest copy"), ("backup", "is gone, and with it the newest copy")]
)
async def test_a_copy_that_is_gone_is_an_error(settings: Settings, gone: str, told: str) -> None:
    for path in Path(settings.backup).parent.glob(gone):
        shutil.rmtree(path)

    level, detail = await checked(settings)

    assert (level, "gone" in detail, told in detail) == ("error", True, True)


@pytest.mark.parametrize(
    ("name", "told"), [("other/backup", "is not there"), ("link", "is a link to"), ("new", None)]
)
async def test_a_folder_that_cannot_be_made_is_an_error(
    settings: Settings, tmp_path: Path, name: str, told: str | None
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")

    level, detail = await checked(settings.model_copy(update={"backup": str(tmp_path / name)}))

    assert level == ("error" if told else "ok")
    assert (told or "the first backup makes it") in detail


async def test_a_folder_without_room_for_a_copy_is_an_error(settings: Settings, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        ours = settings.model_copy(update={"backup": str(disk)})
        room = shutil.disk_usage(disk).free
        (disk / "much").write_bytes(bytes(room - 80 * 1024))
        [little] = await check_copies(ours)
        fill(disk / "more")
        none, _ = await check_copies(ours)

    assert (little.level, none.level) == ("error", "error")
    assert "are free in" in little.detail
    assert "there is no room for a copy" in none.detail


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_folder_of_another_user_is_told_to_root(settings: Settings) -> None:
    os.chown(settings.backup, 1234, 1235)

    assert (await checked(settings))[0] == "warning"


@pytest.mark.parametrize("made", [True, False])
async def test_without_the_setting_it_is_said_whether_there_is_a_copy(
    settings: Settings, tmp_path: Path, *, made: bool
) -> None:
    without = settings.model_copy(update={"backup": ""})
    if not made:
        without = without.model_copy(update={"catalog_url": f"sqlite+aiosqlite:///{tmp_path}/none.db"})

    level, detail = await checked(without)

    assert level == ("ok" if made else "warning")
    assert detail.startswith("workers make none; the newest copy is" if made else "none is set up")
