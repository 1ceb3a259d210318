"""The marker: a file in the root that names the catalog which describes it."""

import os
from contextlib import suppress
from pathlib import Path

import orjson

from storage.blobs.syscalls import alone_in, rename_aside, replace_file, sync_folder, write_aside
from storage.errors import RootMismatch
from storage.keys import MARKER

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
    return owner_in(content)


def owner_in(content: bytes) -> str:
    """The catalog that a marker names. Raises: RootMismatch where it is damaged."""
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
    aside = write_aside(root, MARKER, marker_of(catalog_id))
    try:
        with alone_in(root):  # for file systems that know no exclusive rename
            rename_aside(aside, MARKER, root, root)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=root)
    sync_folder(root)


def replace_marker(root: int, catalog_id: str) -> None:
    """Give the root to that catalog, whatever it belonged to."""
    replace_file(root, MARKER, marker_of(catalog_id))


def marker_of(catalog_id: str) -> bytes:
    """The content of the marker of that catalog's storage."""
    return orjson.dumps({"catalog": catalog_id, "version": 1})
