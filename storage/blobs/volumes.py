"""Which areas of the root are volumes of their own: remembered, so that a missing one is seen at start."""

import os
import re
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from storage.blobs.syscalls import grant, sync_folder
from storage.keys import AREAS, UPLOADS, VARIANTS, VOLUMES

_MODE = 0o644
_LONGEST = 4096  # bytes
_MOUNT = re.compile(rb"^mnt_id:\s*(\d+)", re.MULTILINE)
_NEVER_EMPTY = frozenset({UPLOADS, VARIANTS})  # once something was in them; the others are emptied again


def read_volumes(root: int) -> Set[str]:
    """The areas that were volumes of their own, and held something. Raises: OSError."""
    try:
        fd = os.open(VOLUMES, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return frozenset()
    try:
        names = os.read(fd, _LONGEST).decode(errors="replace").split()
    finally:
        os.close(fd)
    return frozenset(names) & frozenset(AREAS)


def remember_volumes(root: int) -> None:
    """Write down which areas are volumes of their own, as far as they hold something. Raises: OSError."""
    known = read_volumes(root)
    new = {area for area in AREAS if area not in known and _is_volume(root, area)}
    if not new:
        return
    aside = f"{VOLUMES}.{uuid4().hex}"
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=root)
    with open(fd, "w", encoding="ascii") as file:
        file.writelines(f"{area}\n" for area in sorted(known | new))
        grant(fd, _MODE)
        file.flush()
        os.fsync(fd)
    os.rename(aside, VOLUMES, src_dir_fd=root, dst_dir_fd=root)
    sync_folder(root)


def why_missing(root: Path, root_fd: int, area: str, fd: int) -> str | None:
    """Why the folder `fd` is not the volume that `area` was, in words; None where it may well be it."""
    path = root / area
    if not is_apart(root_fd, fd):
        return (
            f"{path} was a volume of its own, and is none now. Is a disk not mounted? "
            f"If it was moved here on purpose: rm {root / VOLUMES}"
        )
    if area in _NEVER_EMPTY and _is_empty(fd):
        return (
            f"{path} is a volume on which there was something, and there is nothing now. "
            f"Is a disk not mounted? If it was emptied on purpose: rm {root / VOLUMES}"
        )
    return None


def is_apart(one: int, other: int) -> bool:
    """Whether two open folders are on different mounts: of another file system, or of a folder (bind)."""
    if os.fstat(one).st_dev != os.fstat(other).st_dev:
        return True
    return _mount_of(one) != _mount_of(other)


def _mount_of(fd: int) -> bytes | None:
    with suppress(OSError), open(f"/proc/self/fdinfo/{fd}", "rb") as facts:
        found = _MOUNT.search(facts.read())
        return found[1] if found else None
    return None


def _is_volume(root: int, area: str) -> bool:
    with suppress(OSError):
        fd = os.open(area, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            return is_apart(root, fd) and not _is_empty(fd)
        finally:
            os.close(fd)
    return False


def _is_empty(fd: int) -> bool:
    with os.scandir(fd) as entries:
        return next(entries, None) is None
