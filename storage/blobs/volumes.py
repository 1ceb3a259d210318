"""Which areas of the root are volumes of their own: remembered, so that a missing one is seen at start."""

import os
import re
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.blobs.syscalls import replace_file
from storage.keys import AREAS, UPLOADS, VARIANTS, VOLUMES

_LONGEST = 4096  # bytes
_MOUNT = re.compile(rb"^mnt_id:\s*(\d+)", re.MULTILINE)
_KEPT_IN = frozenset({UPLOADS, VARIANTS})  # the others are emptied again
_IS_APART, _HAD_FILES = "apart", "had_files"


@dataclass(frozen=True)
class Volume:
    """A folder that is mounted: whether on another file system than the root, and whether it had files.

    A container may have a folder of the root's own file system mounted; others see it without that mount.
    """

    is_apart: bool
    had_files: bool


def read_volumes(root: int) -> Mapping[str, Volume]:
    """The areas that were volumes of their own when they were last inspected. Raises: OSError."""
    try:
        fd = os.open(VOLUMES, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return {}
    try:
        lines = os.read(fd, _LONGEST).decode(errors="replace").splitlines()
    finally:
        os.close(fd)
    words = [line.split() for line in lines if line.strip()]
    return {area: Volume(_IS_APART in rest, _HAD_FILES in rest) for area, *rest in words if area in AREAS}


def remember_volumes(root: int, entered: Container[str]) -> None:
    """Write down which areas are volumes by now; of one that was `entered`, also that it is empty.

    Raises: OSError.
    """
    known = read_volumes(root)
    found = dict(known)
    for area in AREAS:
        now, before = _inspect(root, area), known.get(area, Volume(is_apart=False, had_files=False))
        if now is not None:
            had_files = now.had_files or (before.had_files and area not in entered)
            found[area] = Volume(now.is_apart or before.is_apart, had_files)
    found = {area: volume for area, volume in found.items() if volume.is_apart or volume.had_files}
    if found != known:
        replace_file(root, VOLUMES, _written(found))


def why_missing(root: Path, root_fd: int, area: str, fd: int, was: Volume) -> str | None:
    """Why the folder `fd` is not the volume that `area` was, in words; None where it may well be it."""
    path = root / area
    if was.is_apart and not _is_apart(root_fd, fd):
        return (
            f"{path} was a volume of its own, and is none now. Is a disk not mounted? "
            f"If it was moved here on purpose: rm {root / VOLUMES}"
        )
    if was.had_files and area in _KEPT_IN and _is_empty(fd):
        return (
            f"{path} is a volume on which there was something, and there is nothing now. "
            f"Is a disk not mounted? If it was emptied on purpose: rm {root / VOLUMES}"
        )
    return None


def _inspect(root: int, area: str) -> Volume | None:
    with suppress(OSError):
        fd = os.open(area, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            is_apart = _is_apart(root, fd)
            if is_apart or _mount_of(root) != _mount_of(fd):
                return Volume(is_apart, not _is_empty(fd))
        finally:
            os.close(fd)
    return None


def _is_apart(one: int, other: int) -> bool:
    return os.fstat(one).st_dev != os.fstat(other).st_dev


def _mount_of(fd: int) -> bytes | None:
    with suppress(OSError), open(f"/proc/self/fdinfo/{fd}", "rb") as status:
        found = _MOUNT.search(status.read())
        return found[1] if found else None
    return None


def _is_empty(fd: int) -> bool:
    with os.scandir(fd) as entries:
        return next(entries, None) is None


def _written(volumes: Mapping[str, Volume]) -> bytes:
    words = (
        [area, *([_IS_APART] if volume.is_apart else []), *([_HAD_FILES] if volume.had_files else [])]
        for area, volume in sorted(volumes.items())
    )
    return "".join(f"{' '.join(line)}\n" for line in words).encode()
