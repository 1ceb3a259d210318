"""How the catalog's file is: the one place that tells a damaged file from one that is locked or full."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import CatalogDamaged, CatalogUnavailable
from storage.threads import is_lack_of_threads

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY = 0xFF  # the rest of an error's number says more about it


class Condition:
    """What was met in one catalog's file and stays true until it is proved otherwise.

    `damage` is what a damaged page was met with, by whatever statement; None: no such page was met.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: str | None = None

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
        except (DBAPIError, PoolTimeout, sqlite3.DatabaseError, OSError) as error:
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
        code = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY
        if code in _DAMAGED or "Could not decode to UTF-8" in str(cause):
            damaged = CatalogDamaged(
                f"the catalog {self.path} is damaged ({cause}): what lies there can neither be read nor "
                "written, and `media doctor` says what to do"
            )
            self.met(damaged)
            return damaged
        if code == sqlite3.SQLITE_READONLY:
            return CatalogUnavailable(
                f"the catalog {self.path} cannot be written: let the user {os.geteuid()} write it, the files "
                "beside it that begin with its name, and its folder, and mount its file system for writing"
            )
        if code == sqlite3.SQLITE_FULL:
            return CatalogUnavailable(
                f"there is no room left for the catalog: make some in {self.path.parent}"
            )
        return CatalogUnavailable(f"the catalog did not answer: {cause}")
