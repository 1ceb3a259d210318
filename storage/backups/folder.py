"""A folder of copies: each is a folder of its own, named by its time, and is there whole or not at all."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from storage.backups.keep import Keep
from storage.backups.manifest import MANIFEST, Manifest, read_manifest
from storage.durable import sync_folder_at
from storage.errors import CopyBusy, CopyDamaged, CopyRefused, name_of, writes_copies
from storage.ownership import owner_of

FILES = "files"  # the originals, beside the copies
DAMAGED = ".damaged"  # how the name of a copy ends that was found to be
LOCK = ".lock"
_LOCKING = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_UNFINISHED = ".unfinished-"
_GOING = ".removed-"
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_PART = 1024 * 1024
_NAME = "%Y-%m-%dT%H%M%SZ"
_NAMED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{6}Z(-\d+)?")


@dataclass(frozen=True)
class BackupCopy:
    """One copy, in a folder of its own."""

    path: Path
    manifest: Manifest

    @property
    def file(self) -> Path:
        """The catalog in it."""
        return self.path / self.manifest.file

    def check_bytes(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Read the file. Raises: CopyDamaged where it is another than the manifest says, OSError."""
        if not self.file.is_file():
            raise CopyDamaged(f"the copy {self.path} is damaged: its {self.manifest.file} is missing")
        size, sha256 = hash_of(self.file, stopped)
        if (size, sha256) != (self.manifest.bytes, self.manifest.sha256):
            raise CopyDamaged(
                f"the copy {self.path} is damaged: its {self.manifest.file} is not what it was when it was "
                f"made ({size} bytes, SHA-256 {sha256})"
            )


class BackupFolder:
    """The folder at `path`."""

    def __init__(self, path: Path, on_problem: Callable[[Path, OSError], object] | None = None) -> None:
        """`on_problem` is told of what in it cannot be read or removed, and all else goes on.

        Without it that is raised: who looks for the newest copy is not given an older one in silence.
        """
        self.path = path
        self._on_problem = on_problem or _raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder, made if it is missing, to oneself; what killed backups have left is removed.

        Raises: CopyRefused, also while another backup is made there.
        """
        with writes_copies(self.path):
            if not self.path.parent.is_dir():  # which is not made
                raise CopyRefused(f"{self.path.parent} is not there: is a disk not mounted?")
            self._refuse_root()
            self.path.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self.path / LOCK, _LOCKING, 0o600)
        try:
            self._take(lock)
            with writes_copies(self.path):
                self.remove_unfinished()
            yield
        finally:
            os.close(lock)

    def _refuse_root(self) -> None:
        """The owner of a folder can put links into it, and root would write where they lead."""
        owner = owner_of(self.path)
        if os.geteuid() == 0 and owner is not None and owner.st_uid != 0:
            raise CopyRefused(
                f"{self.path} belongs to the user {name_of(owner.st_uid)}: root makes no copies there. Run "
                "this as that user, or give the folder to root"
            )

    def remove_unfinished(self) -> None:
        """Remove what killed backups have left; the caller has the folder to itself. Raises: OSError."""
        for left in (*self.path.glob(f"{_UNFINISHED}*"), *self.path.glob(f"{_GOING}*")):
            self._remove(left)

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CopyBusy(f"another backup is made in {self.path}: wait until it has ended") from error
        except OSError as error:
            if error.errno != errno.ENOLCK:
                raise
            raise CopyRefused(f"the file system of {self.path} has no locks: choose another one") from error

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """A folder for a copy in the making, which is removed unless it was `publish`ed."""
        with writes_copies(self.path):
            path = self.path / f"{_UNFINISHED}{uuid4().hex[:8]}"
            path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def publish(self, unfinished: Path, time: datetime) -> Path:
        """Give a copy that is whole its name. Raises: CopyRefused."""
        with writes_copies(self.path):
            sync_folder_at(unfinished)
            path = self._free_name(time)
            unfinished.rename(path)
            sync_folder_at(self.path)
        return path

    def _free_name(self, time: datetime) -> Path:
        name = time.strftime(_NAME)
        number = 1
        while (path := self.path / (name if number == 1 else f"{name}-{number}")).exists():
            number += 1
        return path

    def copies(self) -> Sequence[BackupCopy]:
        """The copies that can be read, the newest first; others' folders are none. Raises: OSError."""
        found = []
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.name.startswith(".") or path.name.endswith(DAMAGED):
                continue
            try:
                found.append(BackupCopy(path, read_manifest(path)))
            except (CopyDamaged, *_NO_FILE):
                pass
            except OSError as error:
                self._on_problem(path, error)
        return sorted(found, key=lambda copy: (copy.manifest.time_ms, copy.path.name), reverse=True)

    def unreadable(self) -> Mapping[Path, str]:
        """The folders that are named as copies are, and that are none, with the reason. Raises: OSError."""
        found: dict[Path, str] = {}
        for path in sorted(self.path.iterdir()) if self.path.is_dir() else ():
            if not _NAMED.fullmatch(path.name):
                continue
            try:
                read_manifest(path)
            except CopyDamaged as error:
                found[path] = str(error)
            except _NO_FILE:
                found[path] = f"the copy {path} is damaged: its {MANIFEST} is missing"
            except OSError as error:
                found[path] = f"the copy {path} cannot be read ({error.strerror or error})"
        return found

    def prune(self, made: BackupCopy, keep: Keep) -> Sequence[str]:
        """Remove copies of the same catalog beyond those to keep, never `made`, which was made just now.

        Returns the names of those that went.
        """
        ours = [copy for copy in self.copies() if copy.manifest.catalog == made.manifest.catalog]
        surplus = keep.surplus([copy.manifest.time for copy in ours], made.manifest.time)
        going = [copy.path for copy in ours if copy.manifest.time in surplus and copy.path != made.path]
        return [path.name for path in going if self._withdraw(path)]

    def _withdraw(self, path: Path) -> bool:
        going = path.with_name(f"{_GOING}{path.name}")  # at once: half a copy is none
        try:
            path.rename(going)
        except OSError as error:
            self._on_problem(path, error)
            return False
        self._remove(going)
        return True

    def _remove(self, path: Path) -> None:
        try:
            shutil.rmtree(path)
        except OSError as error:  # the next backup tries again
            self._on_problem(path, error)

    def damaged(self) -> Sequence[str]:
        """The names of the copies that were set aside, the newest last. Raises: OSError."""
        return sorted(path.name for path in self.path.iterdir() if path.name.endswith(DAMAGED))

    def set_aside(self, copy: BackupCopy) -> Path:
        """Let a damaged copy count as one no more; it stays, under another name if it can have one."""
        try:
            return copy.path.rename(copy.path.with_name(f"{copy.path.name}{DAMAGED}"))
        except OSError as error:
            self._on_problem(copy.path, error)
            return copy.path


def _raise(_path: Path, error: OSError) -> None:
    raise error


def hash_of(path: Path, stopped: Callable[[], bool] = lambda: False) -> tuple[int, str]:
    """The size and the SHA-256 of a file; of the part before it was `stopped`. Raises: OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while not stopped() and (part := file.read(_PART)):
            digest.update(part)
            size += len(part)
    return size, digest.hexdigest()
