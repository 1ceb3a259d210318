"""The condition of the catalog's file: damaged, exchanged, locked or full."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.catalog.dialect import MIB, DriverError, Fault, fault_of
from storage.errors import CatalogDamaged, CatalogUnavailable
from storage.threads import is_lack_of_threads

LEAST_ROOM = MIB


class Condition:
    """What was met in one catalog's file and stays true until a write or a check disproves it.

    `damage` is what a damaged page was met with, by whatever statement; None: no such page was met.
    `takes_writes` is false from a write that the file or its disk refused until one that worked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.resolve()  # beside which SQLite's log lies, wherever a link may lead later
        self.damage: str | None = None
        self.takes_writes = True
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
        try:
            yield
        except CatalogDamaged as error:
            self.met(error)  # a row that cannot be read
            raise
        except (IntegrityError, ProgrammingError, DataError):
            raise  # a mistake of ours, and no other try would help
        except (DBAPIError, PoolTimeout, DriverError, OSError) as error:
            raise self._named(error) from error
        except RuntimeError as error:
            if is_lack_of_threads(error):  # each connection has one
                raise CatalogUnavailable(f"the catalog did not answer: {error}") from error
            raise

    def met(self, error: CatalogDamaged) -> None:
        """Remember that the file is damaged."""
        self.damage = str(error)

    def _named(self, error: Exception) -> CatalogUnavailable:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        fault = fault_of(cause)
        if fault is Fault.DAMAGED:
            damaged = CatalogDamaged(
                f"the catalog {self.path} is damaged ({cause}): what lies there can neither be read nor "
                "written, and `media doctor` says what to do"
            )
            self.met(damaged)
            return damaged
        if fault in (Fault.READ_ONLY, Fault.FULL, Fault.DISK):
            self.takes_writes = False
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
        return CatalogUnavailable(f"the catalog did not answer: {cause}")
