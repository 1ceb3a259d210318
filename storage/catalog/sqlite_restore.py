"""A catalog's file is replaced by another one: at once, while nobody has it open, and the old one is kept."""

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from storage.catalog.copying import open_new
from storage.catalog.restored import RESTORED
from storage.catalog.sqlite_errors import Fault, fault_of
from storage.catalog.sqlite_file import MIB, address_of
from storage.durable import sync_folder_at
from storage.errors import CatalogUnavailable, CopyRefused, writes_copies
from storage.ownership import give_to_owner_of

_BUSY_S = 2.0
_LOGS = ("-wal", "-shm", "-journal")
_AIR = 16 * MIB
_RESTORING = ".restoring"
_LOCK = ".restore-lock"
_ASIDE = ".before-restore-"
_SHARED_FIRST, _SHARED_BYTES = 0x40000002, 510  # of the file format: SHARED_FIRST, SHARED_SIZE
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else restores the catalog at `path` meanwhile. Raises: CopyRefused while somebody does."""
    name = path.with_name(path.name + _LOCK)
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    with writes_copies(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with writes_copies(path.parent):
            if not _taken(lock, name):
                raise CopyRefused(
                    f"another restore of the catalog {path} is at work: wait until it has ended"
                )
            give_to_owner_of(path.parent, name)
        try:
            yield
        finally:
            name.unlink(missing_ok=True)
    finally:
        os.close(lock)
        with suppress(OSError):  # a catalog is in it
            for folder in made:
                folder.rmdir()


def _taken(lock: int, name: Path) -> bool:
    """Whether this process has the lock, and its file still is the one of that name."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), name.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False


def check_unused(path: Path) -> None:
    """Raises: CatalogUnavailable while another process has the catalog open. Nothing is changed.

    Who has a catalog with a write-ahead log open holds a lock on these bytes of its file.
    """
    with writes_copies(path.parent):
        try:
            opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_BYTES, _SHARED_FIRST)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return  # a file system without locks: who replaces it finds out
        raise CatalogUnavailable(
            f"the catalog {path} is in use: stop every worker and command first"
        ) from error
    finally:
        os.close(opened)


def begin(path: Path, copy: Path) -> Path:
    """A file beside the catalog at `path` with what the copy has, to be made ready. Raises: CopyRefused."""
    candidate = path.with_name(f"{path.name}{_RESTORING}")
    with writes_copies(path.parent):
        discard(candidate)  # of a restore that was killed
        _remove_second_names(path)
        wanted = 2 * copy.stat().st_size + _AIR
        if shutil.disk_usage(path.parent).free < wanted:
            raise CopyRefused(
                f"make {wanted // MIB + 1} MiB of room in {path.parent}: the old catalog is kept, too"
            )
        with copy.open("rb") as source, open_new(candidate) as target:
            shutil.copyfileobj(source, target, MIB)
            give_to_owner_of(path if path.exists() else path.parent, candidate)
            os.fchmod(target.fileno(), path.stat().st_mode & 0o777 if path.exists() else 0o600)
    return candidate


def discard(candidate: Path) -> None:
    """Remove a candidate, and what a migration has left beside it."""
    for left in _beginning_with(candidate):
        left.unlink()


def _beginning_with(path: Path) -> list[Path]:
    return [each for each in path.parent.iterdir() if each.name.startswith(path.name)]


def _remove_second_names(path: Path) -> None:
    """Of a restore that was killed between two steps: two catalogs of one file would damage it."""
    present = [
        file.lstat() for ending in ("", *_LOGS) if (file := path.with_name(path.name + ending)).exists()
    ]
    for kept in _beginning_with(path.with_name(path.name + _ASIDE)):
        if any(os.path.samestat(kept.lstat(), one) for one in present):
            kept.unlink()


def finish(candidate: Path, nonce: str) -> None:
    """Have all of it in the file itself, durable, to be renamed.

    Raises: CatalogUnavailable where it is not the one that was marked with that `nonce`, OSError.
    """
    try:
        with closing(sqlite3.connect(address_of(candidate), uri=True, isolation_level=None)) as opened:
            mode = opened.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
            query = "SELECT json_extract(value, '$.nonce') FROM kv WHERE name = ?"
            found = opened.execute(query, [RESTORED]).fetchone()
    except sqlite3.Error as error:
        raise CatalogUnavailable(f"the restored catalog {candidate} cannot be used ({error})") from error
    if mode != "delete" or found != (nonce,):
        raise CatalogUnavailable(
            f"the restored catalog {candidate} is in use by somebody else, or not the one that was made ready"
        )
    with candidate.open("rb") as file:
        os.fsync(file.fileno())


def replace(path: Path, candidate: Path, moment: str) -> Path | None:
    """Put the candidate in the place of the catalog; returns where that is kept, if there was one.

    At no moment is there none, nor a mix of both, unless the old one was damaged: that goes first.

    Raises: CatalogUnavailable while another process has the old one open, OSError.
    """
    aside = _free_name(path.with_name(f"{path.name}{_ASIDE}{moment}"))
    with _nobody_else(path) as opened:
        was_there = path.exists()
        if was_there:
            _keep(path, aside, candidate, opened)
        if opened is None:
            _take_logs_away(path, aside)
        os.replace(candidate, path)
        sync_folder_at(path.parent)
    discard(candidate)
    return aside if was_there else None


def _free_name(wanted: Path) -> Path:
    """A name that no file begins with: what an earlier restore has kept stays."""
    path, number = wanted, 1
    while _beginning_with(path):
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
    return path


@contextmanager
def _nobody_else(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Nobody else opens the catalog, and all of it is in its file; None where nobody can read it."""
    if not path.exists():
        yield None
        return
    with closing(
        sqlite3.connect(address_of(path), uri=True, timeout=_BUSY_S, isolation_level=None)
    ) as opened:
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
            yield opened
            return
    yield None


def _keep(path: Path, aside: Path, candidate: Path, opened: sqlite3.Connection | None) -> None:
    """Give the catalog a second name; a copy has it where the file system has no second names."""
    try:
        os.link(path, aside)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return
    unfinished = candidate.with_name(f"{candidate.name}.old")
    with open_new(unfinished) as target:
        if opened is None:
            with path.open("rb") as source:
                shutil.copyfileobj(source, target, MIB)
        else:  # which holds locks that end when the file is closed anywhere in this process
            try:
                opened.execute("VACUUM INTO ?", [str(unfinished)])
            except sqlite3.DatabaseError as error:
                raise CatalogUnavailable(f"the catalog {path} cannot be kept ({error})") from error
        give_to_owner_of(path, unfinished)
        os.fchmod(target.fileno(), path.stat().st_mode & 0o777)
        target.flush()
        os.fsync(target.fileno())
    unfinished.rename(aside)


def _take_logs_away(path: Path, aside: Path) -> None:
    """A log that nobody could read would be taken for the new file's: first the old file has to go."""
    for ending in _LOGS:
        log = path.with_name(path.name + ending)
        if log.exists():
            kept = aside.with_name(aside.name + ending)
            try:
                os.link(log, kept)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with log.open("rb") as source, open_new(kept) as target:
                    shutil.copyfileobj(source, target, MIB)
    path.unlink(missing_ok=True)
    for ending in _LOGS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).unlink()
