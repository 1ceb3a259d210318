"""A catalog's file is replaced by another one: at once, while nobody has it open, and the old one is kept."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from storage.catalog.sqlite_errors import Fault, fault_of
from storage.catalog.sqlite_file import MIB
from storage.durable import give_to_owner_of, sync_folder_at, writes_copies
from storage.errors import CatalogUnavailable, CopyRefused

_BUSY_S = 2.0
_LOGS = ("-wal", "-shm", "-journal")
_AIR = 16 * MIB
_RESTORING = ".restoring"


def begin(path: Path, copy: Path) -> Path:
    """A file beside the catalog at `path` with what the copy has, to be made ready. Raises: CopyRefused."""
    candidate = path.with_name(f"{path.name}{_RESTORING}")
    with writes_copies(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        discard(candidate)  # of a restore that was killed
        wanted = 2 * copy.stat().st_size + _AIR
        if shutil.disk_usage(path.parent).free < wanted:
            raise CopyRefused(
                f"make {wanted // MIB + 1} MiB of room in {path.parent}: the old catalog is kept, too"
            )
        shutil.copyfile(copy, candidate)
        give_to_owner_of(path if path.exists() else path.parent, candidate)
        candidate.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o600)
    return candidate


def discard(candidate: Path) -> None:
    """Remove a candidate, and what a migration has left beside it."""
    for left in candidate.parent.glob(f"{candidate.name}*"):
        left.unlink()


def finish(candidate: Path) -> None:
    """Have all of it in the file itself, durable, to be renamed. Raises: sqlite3.Error, OSError."""
    with closing(sqlite3.connect(candidate, isolation_level=None)) as opened:
        opened.execute("PRAGMA journal_mode=DELETE")
    with candidate.open("rb") as file:
        os.fsync(file.fileno())


def replace(path: Path, candidate: Path, aside: Path) -> None:
    """Put the candidate in the place of the catalog, which is `aside` from then on.

    At no moment is there none, nor a mix of both, unless the old one was damaged: that goes first.

    Raises: CatalogUnavailable while another process has the old one open, OSError.
    """
    with _alone(path) as whole:
        if path.exists():
            aside.unlink(missing_ok=True)
            os.link(path, aside)
        if not whole:
            _take_logs_away(path, aside)
        os.replace(candidate, path)
        sync_folder_at(path.parent)
    for left in candidate.parent.glob(f"{candidate.name}*"):
        left.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Nobody else opens the catalog meanwhile; whether all of it is in its file, and nothing in a log."""
    if not path.exists():
        yield False
        return
    with closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as opened:
        try:
            opened.execute("PRAGMA locking_mode=EXCLUSIVE")
            opened.execute("BEGIN EXCLUSIVE")
            opened.execute("COMMIT")
            opened.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.DatabaseError as error:
            if fault_of(error) is not Fault.DAMAGED:
                raise CatalogUnavailable(
                    f"the catalog {path} is in use ({error}): stop every worker and command first"
                ) from error
        else:
            yield True
            return
    yield False


def _take_logs_away(path: Path, aside: Path) -> None:
    """A log that nobody could read would be taken for the new file's: first the old file has to go."""
    for ending in _LOGS:
        log = path.with_name(path.name + ending)
        if log.exists():
            kept = aside.with_name(aside.name + ending)
            kept.unlink(missing_ok=True)
            os.link(log, kept)
    path.unlink(missing_ok=True)
    for ending in _LOGS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).unlink()
