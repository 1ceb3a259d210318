"""The servers that the URL of a catalog names, of which one takes what is written."""

from typing import Any

import asyncpg

from storage.catalog.address import Address
from storage.catalog.condition import words

CONNECT_S = 5.0  # for each of them: one that is cut off takes every connection, and never answers
_IS_NOT_THE_ONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.exceptions.TargetServerAttributeNotMatched,
)


class Servers:
    """The servers of one catalog, in the order in which they are tried: first the one that answered last."""

    def __init__(self, address: Address) -> None:
        self._dsn = address.dsn
        self._hosts = address.hosts
        # Of several, one that takes no writes is never the one, except for a replica.
        says_all = address.wants_a_kind_of_server or address.is_replica
        self._wanted = "read-write" if len(self._hosts) > 1 and not says_all else None

    async def connect(self, **options: Any) -> Any:  # noqa: ANN401 (the driver's)
        """A connection to the first server that answers, with the driver's `options`.

        Raises: OSError, asyncpg.PostgresError.
        """
        refusals: dict[str, Exception] = {}
        for host, port in self._hosts:
            try:
                connection = await asyncpg.connect(
                    self._dsn,
                    host=host,
                    port=port,
                    timeout=CONNECT_S,
                    target_session_attrs=self._wanted,
                    **options,
                )
            except _IS_NOT_THE_ONE as error:
                refusals[f"{host}:{port}"] = error
            else:
                self._hosts = sorted(self._hosts, key=lambda each: each != (host, port))
                return connection
        raise _one_of(refusals)


def _one_of(refusals: dict[str, Exception]) -> Exception:
    """The only refusal there is, or all of them in one."""
    if len(refusals) == 1:
        [error] = refusals.values()
        if isinstance(error, (OSError, asyncpg.PostgresError)):
            return error
    return ConnectionError("; ".join(f"{server}: {words(error)}" for server, error in refusals.items()))
