"""Files of this program's own that are durable before they have their names."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.blobs.syscalls import sync_folder
from storage.errors import NO_ROOM, CopyRefused, user


def sync_folder_at(path: Path) -> None:
    """Make the names in a folder durable, as far as its file system can."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_folder(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file that only this user may read. Raises: OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def give_to_owner_of(place: Path, *paths: Path) -> None:
    """Give what root has made to whom that place belongs: workers run as another user, and go on there."""
    if os.geteuid() != 0:
        return
    owner = place.stat()
    for path in paths:
        with suppress(OSError):  # some file systems have one owner for all
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextmanager
def writes_copies(folder: Path) -> Iterator[None]:
    """Errors of the body that the system raised, in words that say what to do. Raises: CopyRefused."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise CopyRefused(f"there is no room for a copy in {folder}: make room") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise CopyRefused(
                f"{folder} cannot be written ({error.strerror}): let the user {user()} write it"
            ) from error
        raise CopyRefused(f"no copy can be made in {folder}: {error.strerror or error}") from error
