"""What errors of SQLite mean, and what was met in one catalog's file."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from storage.catalog.condition import Condition
from storage.catalog.sqlite_file import MIB
from storage.errors import CatalogDamaged, CatalogUnavailable

LEAST_ROOM = MIB
_FILES = 4  # that a connection opens: the catalog, its log, the log's index, a temporary one
_NO_TABLE = "no such table"


class Fault(Enum):
    """What the driver means by an error."""

    DAMAGED = "damaged"
    READ_ONLY = "read only"
    NOT_OPENED = "not opened"
    FULL = "full"
    DISK = "disk"
    OTHER = "other"


_FAULTS = {
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Fault.NOT_OPENED,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_IOERR: Fault.DISK,
}


def fault_of(error: BaseException) -> Fault:
    """What the driver's `error` means."""
    if "Could not decode to UTF-8" in str(error):
        return Fault.DAMAGED
    return _FAULTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, Fault.OTHER)  # its primary code


class FileCondition(Condition):
    """The condition of the file at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        self.file = path.resolve()  # beside which SQLite's log lies, wherever a link may lead later
        self._file: tuple[int, int] | None = None

    def opened(self) -> None:
        """Remember which file it is that was opened."""
        self._file = self._found()

    def exchanged(self) -> str | None:
        """What to do where another file, or none, lies there by now: nobody would see what is written."""
        found = self._found()
        if self._file is None or found == self._file:
            return None
        happened = "another file lies there" if found else "it was deleted or moved away"
        return (
            f"the catalog {self.path} was exchanged under this worker ({happened}), and nothing more is "
            "recorded: put the file back, or restart the worker if it is to go on with what lies there now"
        )

    def check_room(self) -> None:
        """Raises: CatalogUnavailable when the disk has too little room for what is written all the time."""
        with suppress(OSError):
            if shutil.disk_usage(self.file.parent).free >= LEAST_ROOM:
                return
            self.takes_writes = False
            raise CatalogUnavailable(f"the disk of the catalog {self.path} is full: make room")

    def has_room_for(self, used: int) -> bool:
        """Whether the log can take all that is written anew, before the file becomes smaller."""
        with suppress(OSError):
            return shutil.disk_usage(self.file.parent).free > 2 * used + LEAST_ROOM
        return False

    def _found(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return self._file  # nobody can say
        return status.st_dev, status.st_ino

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Errors of the body, in the words of the catalog. Raises: CatalogDamaged, CatalogUnavailable."""
        with super().watched():
            try:
                yield
            except sqlite3.DatabaseError as error:  # of a statement that SQLAlchemy did not run
                raise self.named(error) from error

    def is_mistake(self, error: Exception) -> bool:
        """Whether the statement or its values are wrong, rather than the database."""
        return isinstance(error, (IntegrityError, ProgrammingError, DataError)) and not _is_sealed(error)

    def named(self, error: Exception) -> CatalogUnavailable:
        """The error, in words that say what to do."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        if _is_sealed(error):
            return CatalogUnavailable(str(cause))
        fault = fault_of(cause)
        if getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
            return CatalogUnavailable(
                f"the catalog {self.path} was exchanged while it was opened, as a restore does: start again"
            )
        if fault is Fault.DAMAGED:
            damaged = CatalogDamaged(
                f"the catalog {self.path} is damaged ({cause}): what lies there can neither be read nor "
                "written, and `media doctor` says what to do"
            )
            self.met(damaged)
            return damaged
        if fault in (Fault.READ_ONLY, Fault.FULL, Fault.DISK):
            self.takes_writes = False
        if fault is Fault.NOT_OPENED and (lack := _lack_of_files()):
            return CatalogUnavailable(
                f"the catalog {self.path} cannot be opened ({lack}): raise the limit of open files "
                "(LimitNOFILE, ulimit -n)"
            )
        if fault in (Fault.READ_ONLY, Fault.NOT_OPENED):
            return CatalogUnavailable(
                f"the catalog {self.path} cannot be written ({cause}): let the user {os.geteuid()} write it, "
                "the files beside it that begin with its name, and its folder, and mount its file system "
                "for writing"
            )
        if fault is Fault.FULL:
            return CatalogUnavailable(
                f"the catalog {self.path} cannot be written ({cause}): make room on its disk"
            )
        if fault is Fault.DISK:
            return CatalogUnavailable(f"the disk under the catalog {self.path} fails or is full ({cause})")
        if str(cause).startswith(_NO_TABLE):
            return CatalogUnavailable(
                f"the catalog {self.path} cannot be used ({cause}): a table is gone; restore a backup (media "
                "restore), or move the file away and make a new catalog of the originals (media rebuild)"
            )
        return CatalogUnavailable(f"the catalog did not answer: {cause}")


def _lack_of_files() -> str:
    """Why this process cannot open the files of a catalog, whatever they are; "" if it can open any."""
    with ExitStack() as stack:
        try:
            for _ in range(_FILES):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return str(error.strerror) if error.errno in (errno.EMFILE, errno.ENFILE) else ""
    return ""


def _is_sealed(error: Exception) -> bool:
    """Whether a trigger of `seal` has raised it: no other one raises."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_TRIGGER
