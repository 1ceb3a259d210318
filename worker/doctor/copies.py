"""The folder of copies, as `media doctor` finds it."""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from storage.backups.folder import LOCK, BackupCopy
from storage.backups.manifest import read_manifest
from storage.catalog.backup_notes import BackupMade, BackupNotes
from storage.catalog.database import open_to_read
from storage.errors import CopyDamaged, CopyRefused, StorageError, name_of, writes_copies
from storage.threads import in_thread
from worker.amounts import counted, size
from worker.degradation import bad_copy, failed_backup
from worker.doctor.files import find_shut, write_probe
from worker.findings import Finding
from worker.settings import Settings

CHECK_S = 10.0  # at most, to read the newest copy
_WHAT = "Backup folder"
_MOUNT = "Mount its disk, or correct MEDIA_BACKUP."
_COMMAND = "media backup"
_MAKE = f"Make one: {_COMMAND}"
_HAVE_MADE = "Have a worker make one every hour, on another disk: MEDIA_BACKUP=DIR. Or: media backup DIR"


async def check_copies(settings: Settings) -> Sequence[Finding]:
    """Whether copies can be made in the folder of the settings, and the newest is there. Changes nothing."""
    made = None
    with suppress(StorageError, OSError):  # another finding reports it
        async with open_to_read(settings.catalog) as database:
            made = await BackupNotes(database).last()
    if settings.backup_folder is None:
        return [_inspect_absence(made, settings)]
    is_here = made is not None and Path(made.folder).resolve() == settings.backup_folder.resolve()
    try:
        needed = made.bytes if made else _bytes_of_catalog(settings)
        return await in_thread(_check, settings.backup_folder, made if is_here else None, needed)
    except OSError as error:
        return [Finding(_WHAT, "error", f"{settings.backup_folder}: {error.strerror or error}", _MOUNT)]


async def check_noted_copies(settings: Settings) -> Sequence[Finding]:
    """What the catalog notes of copies, for whoever does not make them and may have another folder there."""
    try:
        async with open_to_read(settings.catalog) as database:
            notes, now_ms = BackupNotes(database), database.now_ms()
            made, failed, checked = await notes.last(), await notes.failed(), await notes.checked()
    except (StorageError, OSError):
        return []  # another finding reports it
    if problem := failed_backup(failed):
        return [Finding("Backup", "error", problem, f"Mend that; then make one: {_COMMAND}")]
    if problem := bad_copy(checked):
        return [Finding("Backup", "error", problem, f"{_MAKE}, and look after the disk.")]
    if made is None:
        return [Finding("Backup", _level_of_none(settings), "the catalog notes none", _HAVE_MADE)]
    age = counted(max(0, now_ms - made.time_ms) // 3_600_000, "hour")
    return [Finding("Backup", "ok", f"the newest copy is {made.name} in {made.folder}, {age} old")]


def _level_of_none(settings: Settings) -> Literal["ok", "warning"]:
    """A file needs copies from the first upload on; a server has copies of its own."""
    return "warning" if settings.catalog.is_file else "ok"


def _inspect_absence(made: BackupMade | None, settings: Settings) -> Finding:
    if made is not None:
        detail = f"workers make none; the newest copy is {made.name} in {made.folder}"
        return Finding("Backup", "ok", detail)
    return Finding("Backup", _level_of_none(settings), "none is set up", _HAVE_MADE)


def _bytes_of_catalog(settings: Settings) -> int:
    with suppress(OSError):
        return settings.catalog_path.stat().st_size if settings.catalog.is_file else 0
    return 0


def _check(folder: Path, made: BackupMade | None, needed: int) -> Sequence[Finding]:
    if shut := find_shut(_WHAT, folder, folder / LOCK):
        return [shut]
    if not folder.is_dir():
        return [_inspect_missing(folder, made)]
    newest = _inspect_newest(folder, made)
    found = [found for found in (_try_to_write(folder), _inspect_room(folder, needed)) if found]
    return [*found, newest] if not found or newest.level != "ok" else found


def _inspect_missing(folder: Path, made: BackupMade | None) -> Finding:
    if folder.is_symlink():
        return Finding(_WHAT, "error", f"{folder} is a link to {folder.readlink()}, which is gone", _MOUNT)
    if not folder.parent.is_dir():
        return Finding(_WHAT, "error", f"{folder.parent} is not there", _MOUNT)
    if made is not None:
        detail = f"{folder} is gone, and with it the newest copy {made.name}"
        return Finding(_WHAT, "error", detail, f"{_MOUNT} If it was removed: media backup")
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        detail = f"{folder} cannot be made: {folder.parent} cannot be written"
        return Finding(_WHAT, "error", detail, f"Let the user {name_of(os.geteuid())} write it.")
    return Finding(_WHAT, "ok", f"{folder} is not there yet; the first backup makes it")


def _try_to_write(folder: Path) -> Finding | None:
    owner = folder.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        detail = (
            f"{folder} belongs to the user {name_of(owner)}: a worker that root runs makes no copies there"
        )
        advice = "Run workers as that user, and media doctor too; or give the folder to root."
        return Finding(_WHAT, "warning", detail, advice)
    try:
        with writes_copies(folder):
            write_probe(folder)
        with writes_copies(folder / LOCK), suppress(FileNotFoundError):
            os.close(os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
    except CopyRefused as error:
        return Finding(_WHAT, "error", str(error), f"{_MAKE}, once that is mended.")
    return None


def _inspect_room(folder: Path, needed: int) -> Finding | None:
    """An error where the next copy, which is about as large as the last, has no room."""
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    detail = f"{size(free)} are free in {folder}, and a copy takes {size(needed)}"
    return Finding(_WHAT, "error", detail, "Make room, or keep fewer: MEDIA_BACKUP_KEEP.")


def _inspect_newest(folder: Path, made: BackupMade | None) -> Finding:
    if made is None:
        return Finding(_WHAT, "ok", f"{folder} can be written; no copy of this catalog is noted there")
    path, until = folder / made.name, time.monotonic() + CHECK_S
    try:
        if not path.is_dir():
            return Finding(_WHAT, "error", f"the newest copy {path} is gone", _MAKE)
        BackupCopy(path, read_manifest(path)).check_bytes(lambda: time.monotonic() > until)
    except CopyDamaged as error:
        if time.monotonic() <= until:
            return Finding(_WHAT, "error", str(error), f"{_MAKE}, and look after the disk.")
        return Finding(_WHAT, "ok", f"the newest copy {path} is there; it was not read to its end")
    except OSError as error:
        detail = f"the newest copy {path} cannot be read ({error.strerror or error})"
        return Finding(_WHAT, "error", detail, f"{_MAKE}, and look after the disk.")
    return Finding(_WHAT, "ok", f"the newest copy {path} is what it was when it was made")
