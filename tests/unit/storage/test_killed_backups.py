"""A backup that was killed once it had kept a version, before it had the new one: the next one has it."""

import os
from pathlib import Path

import pytest

from storage.backups import originals
from storage.backups.folder import FILES
from storage.backups.originals import add_originals
from storage.backups.versions import REPLACED
from storage.blobs.local import LocalBlobs

KEY = "uploads/a.jpg"


async def back_up(blobs: LocalBlobs, folder: Path) -> None:
    """Add the originals to the backup."""
    async for _ in add_originals(blobs, folder, "a-catalog", lambda: 0):
        pass


def keep_version(source: Path, folder: Path) -> None:
    """Give the backup's file a second name, as a version has it, later than its original was written."""
    kept = folder / REPLACED / KEY / "2026-11-30T030000.000Z"
    kept.parent.mkdir(parents=True, exist_ok=True)
    while (folder / FILES / KEY).stat().st_ctime <= source.stat().st_ctime:
        kept.unlink(missing_ok=True)
        os.link(folder / FILES / KEY, kept)


@pytest.mark.parametrize("newer", [b"of another size", b"same"])
async def test_a_version_that_was_kept_is_not_taken_for_a_newer_original(
    local_blobs: LocalBlobs, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bytes
) -> None:
    monkeypatch.setattr(originals, "_ONE_CLOCK_S", 0)  # or it would take as long
    folder, source = tmp_path / "backup", root / KEY
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(b"old.")
    await back_up(local_blobs, folder)
    source.unlink()  # as whoever replaces a file does
    source.write_bytes(newer)
    keep_version(source, folder)

    await back_up(local_blobs, folder)

    assert (folder / FILES / KEY).read_bytes() == newer
