"""The copy of a catalog that is kept when a newer program changes its schema."""

import os
import re
import shutil
from pathlib import Path

from storage.catalog.sqlite_file import MIB, back_up
from storage.errors import CatalogUnavailable

_OURS = re.compile(r"\.before-\d{4}")
_FACTOR = 3  # of the catalog's size: the copy, what the change writes, and some air


def copy_before(path: Path, schema: str) -> Path:
    """A copy of the catalog at `path` beside it, as it was before `schema`; an earlier such copy goes.

    Others may read and write meanwhile: it is one moment of the catalog.

    Raises: CatalogUnavailable where there is no room, OSError, sqlite3.DatabaseError.
    """
    wanted = _FACTOR * sum(_size(path.with_name(path.name + ending)) for ending in ("", "-wal"))
    if shutil.disk_usage(path.parent).free < wanted:
        raise CatalogUnavailable(
            f"the catalog {path} is to be brought up to date, and before that a copy of it is kept: "
            f"make {wanted // MIB + 1} MiB of room in {path.parent}"
        )
    target = path.with_name(f"{path.name}.before-{schema}")
    aside = target.with_name(f"{target.name}.part")
    aside.unlink(missing_ok=True)
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it holds what the catalog holds
    back_up(path, aside)
    _make_durable(aside, path.stat().st_mode & 0o777)
    aside.replace(target)
    for old in path.parent.iterdir():
        if old != target and _OURS.fullmatch(old.name.removeprefix(path.name)):
            old.unlink()
    return target


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _make_durable(path: Path, mode: int) -> None:
    with path.open("rb") as file:
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
