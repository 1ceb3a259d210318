"""Files of this program's own that are durable before they have their names."""

import os
from pathlib import Path

from storage.blobs.syscalls import sync_folder


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
