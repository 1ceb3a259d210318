"""The pool of connections to Redis: whoever finds one free takes it without a lock and a timer."""

from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.connection import AbstractConnection


class PromptPool(BlockingConnectionPool):
    """redis-py's pool, in which even who need not wait takes a lock twice, and a timer, for each command."""

    _waiting = 0

    async def get_connection(self, *_args: Any, **_options: Any) -> AbstractConnection:  # noqa: ANN401
        if self._waiting or not self.can_get_connection():
            return await self._wait_for_connection()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _wait_for_connection(self) -> AbstractConnection:
        self._waiting += 1
        try:
            connection: AbstractConnection = await super().get_connection()
        finally:
            self._waiting -= 1
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        if self._waiting:
            await super().release(connection)
        else:
            await ConnectionPool.release(self, connection)
