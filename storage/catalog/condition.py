"""The condition of a catalog: what was met in it, and what errors of its database mean."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import CatalogDamaged, CatalogUnavailable
from storage.threads import is_lack_of_threads


class Condition(ABC):
    """What was met in one catalog and stays true until a write or a check disproves it.

    `damage` is what a damaged page was met with, by whatever statement; None: no such page was met.
    `takes_writes` is false from a write that the database or its disk refused until one that worked.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.damage: str | None = None
        self.takes_writes = True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Errors of the body, in the words of the catalog. Raises: CatalogDamaged, CatalogUnavailable."""
        try:
            yield
        except CatalogDamaged as error:
            self.met(error)  # a row that cannot be read
            raise
        except (DBAPIError, PoolTimeout, OSError) as error:
            if self.is_mistake(error):
                raise  # of ours, and no other try would help
            raise self.named(error) from error
        except RuntimeError as error:
            if is_lack_of_threads(error):  # each connection has one
                raise CatalogUnavailable(f"the catalog did not answer: {error}") from error
            raise

    def met(self, error: CatalogDamaged) -> None:
        """Remember that the catalog is damaged."""
        self.damage = str(error)

    @abstractmethod
    def is_mistake(self, error: Exception) -> bool:
        """Whether the statement or its values are wrong, rather than the database."""

    @abstractmethod
    def named(self, error: Exception) -> CatalogUnavailable:
        """The error, in words that say what to do."""


def words(error: BaseException) -> str:
    """What the driver says, in one line: no statement, no parameters, and no row, which may be another's."""
    cause = cause_of(error)
    said, _, _ = str(cause).partition("\nDETAIL:")
    return " ".join(said.split()) or type(cause).__name__


def cause_of(error: BaseException) -> BaseException:
    """The driver's own error."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return error
    return error.orig.__cause__ or error.orig
