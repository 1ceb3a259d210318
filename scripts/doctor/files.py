"""The storage root, as `media doctor` finds it."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.formats import MIB
from scripts.terminal import size
from storage import keys
from storage.blobs.local import open_local
from storage.catalog import Catalog
from storage.errors import StorageError
from worker.health import Finding
from worker.settings import Settings

LITTLE_ROOM = 1024 * MIB
_PROBE = 4096  # bytes written to see whether writing works


def to_be_made(what: str, path: Path, named_by: str) -> Finding:
    """What a first worker makes, or cannot."""
    there = next(folder for folder in path.parents if folder.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding(what, "ok", f"{path} does not exist yet; the first worker makes it")
    advice = f"Let the user {os.geteuid()} make it, or correct {named_by}."
    return Finding(what, "error", f"{path} does not exist, and cannot be made in {there}", advice)


async def look_at_root(settings: Settings, catalog: Catalog | None) -> Sequence[Finding]:
    """Whether the root is there, belongs to the catalog, and takes files; nothing of it is changed."""
    root = settings.storage_root
    first_start = catalog is None or catalog.is_new
    if not root.exists():
        if first_start:
            return [to_be_made("Storage root", root, "MEDIA_STORAGE_URL")]
        advice = "Mount the disk, or correct MEDIA_STORAGE_URL: the catalog describes another root."
        return [Finding("Storage root", "error", f"{root} does not exist", advice)]
    used = [name for name in (keys.MARKER, keys.VARIANTS) if (root / name).exists()]
    if first_start and used:
        detail = f"{root} has {used[0]} already, and there is no catalog that describes it"
        advice = "Correct MEDIA_CATALOG_URL, or restore the catalog; if it is lost: media rebuild."
        return [Finding("Storage root", "error", detail, advice), *await look_at_room(settings)]
    if catalog is not None and not first_start:
        try:
            async with open_local(root, create=False) as blobs:
                blobs.bind(catalog.id, catalog_is_new=False)
        except StorageError as error:
            advice = "Mount the disk, or correct MEDIA_STORAGE_URL and MEDIA_CATALOG_URL."
            return [Finding("Storage root", "error", str(error), advice), *await look_at_room(settings)]
    return [Finding("Storage root", "ok", str(root)), *await look_at_room(settings)]


async def look_at_room(settings: Settings) -> Sequence[Finding]:
    """Whether files can really be written, and how much room there is."""
    root = settings.storage_root
    if not root.is_dir():
        return []
    try:
        await _write(root)
    except (StorageError, OSError) as error:
        advice = f"Let the user {os.geteuid()} make files and folders in {root}."
        return [Finding("Writing", "error", f"{error}", advice)]
    free = shutil.disk_usage(root).free
    short = free < LITTLE_ROOM
    return [
        Finding("Writing", "ok", "a file was written and removed"),
        Finding(
            "Free space",
            "warning" if short else "ok",
            size(free),
            "Make room: a full disk stops every upload." if short else None,
        ),
    ]


async def _write(root: Path) -> None:
    with tempfile.TemporaryFile(dir=root) as file:  # nameless, so that even a crash leaves nothing
        file.write(bytes(_PROBE))
        file.flush()
        os.fsync(file.fileno())
    if (root / keys.STAGING).exists():  # as long as there is none, the first worker makes it
        async with open_local(root, create=False) as blobs, blobs.stage(1) as [staged]:
            os.write(staged.fd, bytes(_PROBE))
            os.fsync(staged.fd)
    if (root / keys.VARIANTS).exists() and not os.access(root / keys.VARIANTS, os.W_OK | os.X_OK):
        raise PermissionError(f"{root / keys.VARIANTS} cannot be written")
