"""The storage root, as `media doctor` finds it."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipelines.formats import MIB
from storage import keys
from storage.blobs.opening import open_blobs
from storage.blobs.s3_place import is_s3
from storage.catalog.opening import Catalog
from storage.errors import NO_ROOM, FileSystemUnfit, StorageError, StorageFull, VolumeMissing, user
from storage.paths import barrier, is_there
from worker.amounts import size
from worker.degradation import full
from worker.doctor.bucket import check_bucket, check_use
from worker.findings import Finding
from worker.settings import Settings
from worker.stores import NO_CATALOG

LITTLE_ROOM = 1024 * MIB
_REMOUNT = (
    "Mount it for writing (mount -o remount,rw); after errors the kernel mounts a disk read-only: see dmesg."
)
_PROBE = bytes(64 * 1024)  # written to a file that is removed at once


def to_be_made(what: str, path: Path, named_by: str) -> Finding:
    """Whether the first worker can make what is not there yet."""
    there = next(folder for folder in path.parents if folder.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding(what, "ok", f"{path} does not exist yet; the first worker makes it")
    advice = f"Let the user {user()} make it, or correct {named_by}."
    return Finding(what, "error", f"{path} does not exist, and cannot be made in {there}", advice)


async def check_root(settings: Settings, catalog: Catalog | None) -> Sequence[Finding]:
    """Whether the root exists, belongs to the catalog and takes files. Changes nothing in it."""
    if is_s3(settings.storage_url):
        return await check_bucket(settings, catalog)
    root = settings.storage_root
    first_start = catalog is None or catalog.is_new
    if shut := find_shut("Storage root", root, root / keys.MARKER):
        return [shut]
    if not root.exists():
        if first_start:
            return [to_be_made("Storage root", root, "MEDIA_STORAGE_URL")]
        advice = "Mount the disk, or correct MEDIA_STORAGE_URL: the catalog describes another root."
        return [Finding("Storage root", "error", f"{root} does not exist", advice)]
    used = _used(root)
    if first_start and used:
        detail = f"{root} has {used} already, and no catalog describes it"
        return [Finding("Storage root", "error", detail, NO_CATALOG), *await check_room(settings)]
    if catalog is not None and not first_start:
        try:
            async with open_blobs(settings.storage_url, create=False) as blobs:
                await blobs.bind(catalog.id, catalog_is_new=False)
        except StorageError as error:
            advice = "Mount the disk, or correct MEDIA_STORAGE_URL and MEDIA_CATALOG_URL."
            return [Finding("Storage root", "error", str(error), advice), *await check_room(settings)]
    return [Finding("Storage root", "ok", str(root)), *await check_room(settings)]


def find_shut(what: str, path: Path, looked_for: Path) -> Finding | None:
    """An error if the user may not enter `path`, so that `looked_for` below it cannot be found; else None."""
    try:
        is_there(looked_for)
    except OSError as error:
        reason = barrier(looked_for) or barrier(looked_for.resolve()) or error.strerror
        advice = "Give that user the right to enter it (x in its mode), or name another folder."
        return Finding(what, "error", f"{path} cannot be reached: {reason}", advice)
    return None


def _used(root: Path) -> str | None:
    """A name that is there only if a catalog has described this root."""
    if (root / keys.MARKER).exists():
        return keys.MARKER
    variants = root / keys.VARIANTS
    with suppress(OSError):
        if any(not keys.is_hidden(name) for name in os.listdir(variants)):
            return keys.VARIANTS
    return None


async def check_room(settings: Settings) -> Sequence[Finding]:
    """Whether each folder is what it must be, files can really be written, and how much room there is."""
    if is_s3(settings.storage_url):
        return await check_use(settings)
    root = settings.storage_root
    if shut := find_shut("Storage root", root, root / keys.MARKER):
        return [shut]
    if not root.is_dir():
        return []
    folders = [
        found
        for area in keys.AREAS
        if (found := _check_folder(root / area) or await _check_volume(settings.storage_url, area))
    ]
    try:
        lacks = await _write(settings)
    except (StorageError, OSError) as error:
        return [*folders, Finding("Writing", "error", f"{error}", _advice(error, root))]
    return [
        *folders,
        Finding("Writing", "ok", "a file was written and removed"),
        *(
            Finding("File system", "warning", lack, "Use another file system if that matters.")
            for lack in lacks
        ),
        *_check_space(root),
    ]


def _check_folder(path: Path) -> Finding | None:
    what = f"Folder {path.name}/"
    if shut := find_shut(what, path, path):
        return shut
    if path.is_symlink() and not path.exists():
        advice = "Mount the disk, or point the link to the folder."
        return Finding(what, "error", f"{path} is a link to {path.readlink()}, which is gone", advice)
    if not path.exists():
        return None  # a worker makes it when it needs it
    if not path.is_dir():
        return Finding(what, "error", f"{path} is not a folder", "Move it out of the way.")
    needed = os.R_OK | os.X_OK if path.name == keys.UPLOADS else os.R_OK | os.W_OK | os.X_OK
    if os.access(path, needed):
        return None
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return Finding(what, "error", f"{path} is mounted read-only", _REMOUNT)
    does = "read" if path.name == keys.UPLOADS else "read and write"
    return Finding(what, "error", f"the user {user()} may not {does} {path}", _grant(path))


async def _check_volume(url: str, area: str) -> Finding | None:
    """An error if the folder was a volume of its own and is none now; else None."""
    try:
        async with open_blobs(url, create=False) as blobs:
            await blobs.enter(area)
    except VolumeMissing as error:
        return Finding(
            f"Folder {area}/", "error", str(error), "Mount the disk; the worker then continues by itself."
        )
    except (StorageError, OSError):
        pass  # another finding reports it
    return None


def _advice(error: Exception, root: Path) -> str:
    """What to do about an error of writing."""
    cause = error if isinstance(error, OSError) else error.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    if isinstance(error, StorageFull) or number in NO_ROOM:
        return f"Make room on the disk of {root} (or raise the quota); uploads wait until then."
    if number == errno.EROFS:
        return _REMOUNT
    if isinstance(error, FileSystemUnfit):
        return "Move the storage root to such a file system."
    if number in (errno.EACCES, errno.EPERM):
        return _grant(root)
    return f"Check that {root} exists and answers; the system's log says more (dmesg)."


def _grant(path: Path) -> str:
    return f"Let the user {user()} make files and folders in {path}."


def _check_space(root: Path) -> Iterator[Finding]:
    """The free space of each disk of the root."""
    disks: dict[int, Path] = {}
    for path in (root, *(root / area for area in keys.AREAS if area != keys.UPLOADS)):
        with suppress(OSError):  # it does not exist, or another finding has reported it
            disks.setdefault(path.stat().st_dev, path)
    for path in disks.values():
        what = "Free space" if path == root else f"Free space of {path.name}/"
        usage = shutil.disk_usage(path)
        free, taken = usage.free, full(usage.used, usage.free)
        if free < LITTLE_ROOM or taken:
            detail = f"{size(free)} are free, {taken}" if taken else size(free)
            yield Finding(what, "warning", detail, "Make room: a full disk stops every upload.")
        else:
            yield Finding(what, "ok", size(free))


async def _write(settings: Settings) -> Sequence[str]:
    """Write and remove a little; returns what the file system lacks, once its folders are there to try."""
    root = settings.storage_root
    write_probe(root)
    if not all((root / area).exists() for area in (keys.STAGING, keys.VARIANTS)):
        return []  # the first worker makes them
    async with open_blobs(settings.storage_url, create=False) as blobs:
        return await blobs.find_lacks()


def write_probe(folder: Path) -> None:
    """Write and remove a little. Raises: OSError."""
    with tempfile.TemporaryFile(dir=folder) as file:  # nameless, so that even a crash leaves nothing
        file.write(_PROBE)
        file.flush()
        os.fsync(file.fileno())
