"""The marker: a file in the root that names the catalog which describes it."""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import orjson

from storage.blobs.syscalls import alone_in, grant, rename_aside, sync_folder
from storage.errors import RootMismatch
from storage.keys import MARKER

_MODE = 0o644
_LONGEST = 4096  # bytes


def read_marker(root: int) -> str | None:
    """The catalog that the root belongs to; None: no marker. Raises: RootMismatch where it is damaged."""
    try:
        fd = os.open(MARKER, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None
    try:
        content = os.read(fd, _LONGEST)
    finally:
        os.close(fd)
    try:
        return str(orjson.loads(content)["catalog"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise RootMismatch(f"{MARKER} is damaged: {error}") from error


def read_marker_at(root: Path) -> str | None:
    """The catalog that the folder belongs to; None where it says none, or cannot be read."""
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return read_marker(fd)
    except (OSError, RootMismatch):
        return None
    finally:
        os.close(fd)


def write_marker(root: int, catalog_id: str) -> None:
    """Give a root without a marker to that catalog; who comes second changes nothing."""
    # Written aside first, because a file made with O_EXCL can be read while it is still empty.
    aside = _written_aside(root, catalog_id)
    try:
        with alone_in(root):  # for file systems that know no exclusive rename
            rename_aside(aside, MARKER, root, root)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=root)
    sync_folder(root)


def replace_marker(root: int, catalog_id: str) -> None:
    """Give the root to that catalog, whatever it belonged to."""
    os.rename(_written_aside(root, catalog_id), MARKER, src_dir_fd=root, dst_dir_fd=root)
    sync_folder(root)


def _written_aside(root: int, catalog_id: str) -> str:
    name = f"{MARKER}.{uuid4().hex}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=root)
    with open(fd, "wb") as file:
        file.write(orjson.dumps({"catalog": catalog_id, "version": 1}))
        grant(fd, _MODE)
        file.flush()
        os.fsync(fd)
    return name
