"""What errors of Postgres mean, by their SQLSTATE, in words that name no password."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError

from storage.catalog.condition import Condition, cause_of, words
from storage.errors import CatalogAway, CatalogConflict, CatalogDamaged, CatalogUnavailable, CatalogUnfit

SERIALIZATION_FAILURE = "40001"
DEADLOCK = "40P01"
READ_ONLY = "25006"
SEALED_STATE = "MW001"
"""What the triggers of `seal` raise."""
_NO_TABLE = ("42P01", "3F000")
_NO_RIGHT = "42501"
_OF_OURS = ("22", "23", "42")  # classes: a value, a constraint, a statement
_DAMAGED = ("XX001", "XX002")
_ADVICE = {
    "28000": "this user may not log in from here: see the server's pg_hba.conf, or correct MEDIA_CATALOG_URL",
    "28P01": "correct user and password in MEDIA_CATALOG_URL",
    "3D000": "correct the name of the database in MEDIA_CATALOG_URL, or create it (CREATE DATABASE)",
    _NO_RIGHT: "make the catalog's user the owner of its database (ALTER DATABASE … OWNER TO …)",
    **dict.fromkeys(
        _NO_TABLE,
        "its tables are gone: restore a backup (media restore), or see whether the schema is another",
    ),
    READ_ONLY: "the server takes no writes: a replica, or one that is shut for them",
    "53100": "make room on the server's disk",
    "53300": "let the server take more connections (max_connections), or lower MEDIA_CATALOG_POOL",
}


_OF_THE_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_OF_URL = asyncpg.exceptions.ClientConfigurationError
_NO_TLS = "rejected SSL upgrade"
_POOLER_ALONE = "server_login_retry"
_OF_SERVERS_THAT_LEAVE = ("08", "57P")  # or that have not come yet
_POOLER = "unsupported startup parameter"


class ServerCondition(Condition):
    """The condition of a catalog on a server; `name` is its URL without the password."""

    _met_at = float("-inf")
    was_away = False
    """Whether the server did not answer since another one can last have taken its place."""

    def met(self, error: CatalogDamaged) -> None:
        """Remember that the catalog is damaged."""
        super().met(error)
        self._met_at = time.monotonic()

    def forget_damage(self, after_s: float) -> None:
        """Forget damage that was last met so long ago: nobody but the server can look for it."""
        if time.monotonic() - self._met_at > after_s:
            self.damage = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Errors of the body, in the words of the catalog. Raises: CatalogDamaged, CatalogUnavailable."""
        with super().watched():
            try:
                yield
            except _OF_THE_DRIVER as error:  # before SQLAlchemy had it
                raise self.named(error) from error

    def is_mistake(self, error: Exception) -> bool:
        """Whether the statement or its values are wrong, rather than the database."""
        state = sqlstate(error)
        return (state[:2] in _OF_OURS and state not in _ADVICE) or _is_drivers(error)

    def named(self, error: Exception) -> CatalogUnavailable:
        """The error, in words that say what to do."""
        state, cause = sqlstate(error), words(error)
        if state in (SERIALIZATION_FAILURE, DEADLOCK):
            return CatalogConflict(f"the catalog undid a transaction that met another: {cause}")
        if state == SEALED_STATE:
            return CatalogUnavailable(cause)
        if state in _DAMAGED:
            damaged = CatalogDamaged(f"the catalog {self.name} is damaged: {cause}")
            self.met(damaged)
            return damaged
        self.was_away = True
        if state in (READ_ONLY, "53100"):
            self.takes_writes = False
        if advice := _ADVICE.get(state):
            return CatalogUnavailable(f"the catalog {self.name} cannot be used ({cause}): {advice}")
        if _POOLER in cause:
            return CatalogUnfit(f"the catalog {self.name} is behind a PgBouncer: set MEDIA_CATALOG_POOLER=1")
        if isinstance(cause_of(error), _OF_URL):
            return CatalogUnfit(f"the catalog {self.name} cannot be reached ({cause}): see MEDIA_CATALOG_URL")
        if isinstance(error, socket.gaierror):
            return CatalogAway(f"the host of the catalog {self.name} is not known: {cause}")
        if isinstance(error, ConnectionRefusedError):
            return CatalogAway(f"nobody listens where the catalog {self.name} should be: {cause}")
        if _NO_TLS in cause:
            advice = "set up TLS on its server, or correct sslmode= in MEDIA_CATALOG_URL"
            return CatalogUnavailable(f"the catalog {self.name} speaks no TLS ({cause}): {advice}")
        if _POOLER_ALONE in cause:
            return CatalogAway(
                f"the pooler before the catalog {self.name} answers, and its Postgres does not: {cause}"
            )
        if isinstance(error, TimeoutError):
            return CatalogAway(f"the catalog {self.name} did not answer in time: is a Postgres on that port?")
        is_away = not state or state.startswith(_OF_SERVERS_THAT_LEAVE)
        kind = CatalogAway if is_away else CatalogUnavailable
        return kind(f"the catalog {self.name} did not answer: {cause}")


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of an error, "" where it has none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) or ""


def is_loss(error: Exception) -> bool:
    """Whether the connection on which a statement was run is lost: it may have been before."""
    if isinstance(error, TimeoutError):
        return False
    no_answer = isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError))
    return no_answer or sqlstate(error).startswith(_OF_SERVERS_THAT_LEAVE)


def _is_drivers(error: Exception) -> bool:
    """Whether the driver has refused a statement or its values, which the server has not seen."""
    cause = cause_of(error)
    if not isinstance(cause, asyncpg.InterfaceError) or isinstance(cause, _OF_URL):
        return False
    is_gone = isinstance(error, DBAPIError) and error.connection_invalidated
    return not is_gone and "connection" not in str(cause)
