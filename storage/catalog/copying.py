"""Copies of a catalog's file: one moment of it in another file, durable before it has its name."""

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from storage.catalog.sqlite_errors import Fault, fault_of
from storage.catalog.sqlite_file import MIB, address_of
from storage.durable import sync_folder_at
from storage.errors import CatalogUnavailable, CopyRefused

COPY = "catalog.db"  # the name of a copy in a backup
_OURS = re.compile(r"\.before-\d{4}")
_FACTOR = 3  # of the catalog's size: the copy, what the change writes, and some air
_BUSY_S = 10.0
_STOP_STEPS = 10_000  # of SQLite's machine, between two looks at whether to stop


def copy_file(
    path: Path, target: Path, *, mode: int = 0o600, stopped: Callable[[], bool] = lambda: False
) -> None:
    """Copy one moment of the catalog at `path` to `target`, which is there once it is whole and durable.

    Others may read and write meanwhile.

    Raises: CopyRefused where there is no room, OSError, sqlite3.DatabaseError, also when it was `stopped`.
    """
    aside = target.with_name(f"{target.name}.part")
    aside.unlink(missing_ok=True)
    open_new(aside).close()
    try:
        _fill(path, aside, stopped)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    with aside.open("rb") as file:
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    aside.replace(target)
    sync_folder_at(target.parent)


def open_new(path: Path) -> BinaryIO:
    """A new file, open for writing, that only this user may read: it will hold what the catalog holds."""
    return open(
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb"
    )


def _fill(path: Path, target: Path, stopped: Callable[[], bool]) -> None:
    with closing(sqlite3.connect(address_of(path), uri=True, timeout=_BUSY_S)) as source:
        source.set_progress_handler(stopped, _STOP_STEPS)
        try:
            # In one step: a copy in several begins anew whenever somebody commits, and may never end.
            source.execute("VACUUM INTO ?", [str(target)])
        except sqlite3.DatabaseError as error:
            if fault_of(error) is Fault.FULL:  # of the target: nothing is written to the catalog
                raise CopyRefused(f"there is no room for a copy of the catalog in {target.parent}") from error
            raise


def copy_before(path: Path, schema: str) -> Path:
    """A copy of the catalog at `path` beside it, as it was before `schema`; an earlier such copy goes.

    Raises: CatalogUnavailable where there is no room, OSError, sqlite3.DatabaseError.
    """
    wanted = _FACTOR * bytes_of(path)
    if shutil.disk_usage(path.parent).free < wanted:
        raise CatalogUnavailable(
            f"the catalog {path} is to be brought up to date, and before that a copy of it is kept: "
            f"make {wanted // MIB + 1} MiB of room in {path.parent}"
        )
    target = path_before(path, schema)
    copy_file(path, target, mode=path.stat().st_mode & 0o777)
    for old in path.parent.iterdir():
        if old != target and _OURS.fullmatch(old.name.removeprefix(path.name)):
            old.unlink()
    return target


def path_before(path: Path, schema: str) -> Path:
    """Where the copy of the catalog at `path` is kept that was made before it was brought to `schema`."""
    return path.with_name(f"{path.name}.before-{schema}")


def bytes_of(path: Path) -> int:
    """The size of the catalog at `path`, with its log."""
    files = [path.with_name(path.name + ending) for ending in ("", "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())
