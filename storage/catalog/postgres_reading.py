"""Quick reads of a catalog on a server: each statement alone, on a replica while one answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from sqlalchemy.dialects.postgresql import asyncpg

from storage.catalog.address import Address
from storage.catalog.postgres import PostgresBackend
from storage.catalog.postgres_errors import is_loss
from storage.catalog.reading_queries import Query
from storage.catalog.replicas import OnReplica
from storage.errors import CatalogDamaged, CatalogUnavailable

AGAIN_S = 10.0  # after which a replica that did not answer is asked again
ANSWER_S = 5.0  # for which a replica is waited for: the catalog itself may have the answer
LAG_KEPT_S = 1.0

# A replica that has replayed all it received lags behind only if it receives nothing any more.
_LAG = """
    SELECT CASE
        WHEN NOT pg_is_in_recovery() THEN 0
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
            AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
        ELSE greatest(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)
    END
"""

Rows = Sequence[Mapping[str, Any]]
_DIALECT: Any = asyncpg.dialect()  # type: ignore[no-untyped-call]


class ServerSource:
    """A catalog on a server, and maybe a replica that is asked in its place."""

    def __init__(
        self, catalog: PostgresBackend, replica: PostgresBackend | None, on_replica: OnReplica
    ) -> None:
        self._catalog = catalog
        self._replica = replica
        self._on_replica = on_replica
        self._lag_s: float | None = None if replica is None else 0.0
        self._lag_at = self._away_until = float("-inf")
        self._is_away = False

    @property
    def lag_s(self) -> float | None:
        """How many seconds what is read may lag behind the catalog; None: it is the catalog's own."""
        return self._lag_s

    async def ask(self, query: Query, values: Mapping[str, Any]) -> Rows:
        """The rows of a query. Raises: CatalogUnavailable, CatalogDamaged."""
        if self._replica is not None and time.monotonic() >= self._away_until:
            try:
                return await self._ask_replica(self._replica, query, values)
            except CatalogUnavailable as error:
                self._leave(self._replica, error)
        return await _ask(self._catalog, query, values)

    async def ask_newest(self, query: Query, values: Mapping[str, Any]) -> Rows:
        """The rows as the catalog itself has them; as the replica has them while it is away."""
        try:
            return await _ask(self._catalog, query, values)
        except CatalogUnavailable:
            if self._replica is None:
                raise
            return await _ask(self._replica, query, values)

    def met(self, error: CatalogDamaged) -> None:
        """Remember that the catalog is damaged."""
        self._catalog.condition.met(error)

    async def _ask_replica(self, replica: PostgresBackend, query: Query, values: Mapping[str, Any]) -> Rows:
        with replica.condition.watched():
            async with asyncio.timeout(ANSWER_S):
                if time.monotonic() - self._lag_at > LAG_KEPT_S:
                    self._lag_at = time.monotonic()
                    [found] = await _fetch(replica, _LAG, ())
                    self._lag_s = float(found[0] or 0.0)
                rows = await _read(replica, query, values)
        if self._is_away:
            self._on_replica(replica.condition.name, None)
        self._is_away = False
        return rows

    def _leave(self, replica: PostgresBackend, error: CatalogUnavailable) -> None:
        if not self._is_away:
            self._on_replica(replica.condition.name, error)
        self._is_away, self._lag_s = True, 0.0
        self._away_until = time.monotonic() + AGAIN_S


@asynccontextmanager
async def open_server(
    address: Address, replica: Address | None, on_replica: OnReplica
) -> AsyncIterator[ServerSource]:
    """The catalog there, and its replica, which need not answer yet."""
    backends = [PostgresBackend(each) for each in (address, replica) if each is not None]
    try:
        yield ServerSource(backends[0], backends[1] if replica is not None else None, on_replica)
    finally:
        for backend in backends:
            await backend.close()


async def _ask(backend: PostgresBackend, query: Query, values: Mapping[str, Any]) -> Rows:
    with backend.condition.watched():
        return await _read(backend, query, values)


async def _read(backend: PostgresBackend, query: Query, values: Mapping[str, Any]) -> Rows:
    sql, names, constants = _compiled(query)
    given = {**constants, **values}
    return [dict(row) for row in await _fetch(backend, sql, [given[name] for name in names])]


@lru_cache(maxsize=512)
def _compiled(query: Query) -> tuple[str, Sequence[str], Mapping[str, Any]]:
    """The text of a query, the names of its parameters in their order, and those that are always the same."""
    compiled: Any = query.compile(dialect=_DIALECT)
    return str(compiled), compiled.positiontup or (), compiled.params


class _ConnectionLost(Exception):
    """The connection that ran a statement is lost, as all may be that waited while a server was away."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


async def _fetch(backend: PostgresBackend, sql: str, values: Sequence[Any]) -> Sequence[Any]:
    """The rows of a statement, which alone is a transaction; it is read again where a connection was lost."""
    tries = backend.pool + 1  # each that the pool has may be lost
    while True:
        try:
            return await _fetch_once(backend, sql, values)
        except _ConnectionLost as lost:
            tries -= 1
            if tries <= 0:
                raise lost.error from lost


async def _fetch_once(backend: PostgresBackend, sql: str, values: Sequence[Any]) -> Sequence[Any]:
    """The same by one connection, which nobody else gets where the statement fails or is cancelled.

    To run it by SQLAlchemy costs more than all the rest. Raises: _ConnectionLost.
    """
    async with backend.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            rows: Sequence[Any] = await driver.fetch(sql, *values)
        except BaseException as error:
            await connection.invalidate()
            if isinstance(error, Exception) and is_loss(error):
                raise _ConnectionLost(error) from error
            raise
        return rows
