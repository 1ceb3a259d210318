"""Who is told how long storage takes: the interface that a worker implements, and who is told nothing."""

from math import inf
from typing import Literal, Protocol

StorageOperation = Literal["open", "read", "store", "exists", "delete", "move", "list", "probe"]
CatalogOperation = Literal[
    "intake", "claim", "commit", "outbox", "report", "reconcile", "sweep", "lock", "other"
]


class StorageWatch(Protocol):
    """Is told of the verbs of a storage."""

    def took(self, operation: StorageOperation, seconds: float) -> None:
        """An operation has ended, well or not, and took so long."""

    def failed(self, operation: StorageOperation) -> None:
        """The storage could not do it, and the key was not to blame."""


class CatalogWatch(Protocol):
    """Is told of the transactions and statements of a catalog."""

    slow_s: float
    """How long a statement may take before it `was_slow`."""

    def took(self, operation: CatalogOperation, seconds: float) -> None:
        """A transaction has ended; or one was waited for (`lock`)."""

    def was_slow(self, statement: str, seconds: float) -> None:
        """A statement, without its parameters, took longer than `slow_s`."""


class Nobody:
    """Is told, and does nothing."""

    slow_s = inf

    def took(self, operation: str, seconds: float) -> None:
        pass

    def failed(self, operation: str) -> None:
        pass

    def was_slow(self, statement: str, seconds: float) -> None:
        pass


NOBODY = Nobody()
