"""The `seq` of messages on Postgres, which never falls, also where another server takes over."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import BigInteger, bindparam, text

from storage.catalog.postgres_errors import ServerCondition
from storage.catalog.sqlalchemy_parts import AsyncConnection, AsyncEngine

_OUTBOX = "CAST(pg_get_serial_sequence('outbox', 'seq') AS regclass)"
_GIVEN = text(f"SELECT coalesce(pg_sequence_last_value({_OUTBOX}), 0)")
_WAIT = text("SELECT pg_advisory_xact_lock(hashtextextended('media-worker:outbox', 0))")
_RAISE = text(
    f"SELECT setval({_OUTBOX}, :seq) WHERE coalesce(pg_sequence_last_value({_OUTBOX}), 0) < :seq"
).bindparams(bindparam("seq", type_=BigInteger))


async def given_seq(connection: AsyncConnection) -> int:
    """The greatest `seq` that the outbox has given, 0 before the first."""
    return int((await connection.execute(_GIVEN)).scalar_one())


async def give_above(connection: AsyncConnection, seq: int) -> None:
    """Have the outbox give no `seq` from now on that is not above that one."""
    await connection.execute(_WAIT)  # or it would be put back where others give some just now
    await connection.execute(_RAISE, {"seq": seq})


class Return:
    """What is done after an outage, once: a replica that took over may have forgotten the last messages."""

    def __init__(self, condition: ServerCondition, engine: AsyncEngine) -> None:
        self._condition = condition
        self._engine = engine
        self._lock = asyncio.Lock()
        self.newest: Callable[[], Awaitable[int]] | None = None
        """Returns the greatest `seq` that apps have had."""

    async def before_writing(self) -> None:
        """Have the outbox give no `seq` that is not above `newest`, if the server was away."""
        if not self._condition.was_away:
            return
        async with self._lock:
            if self._condition.was_away and self.newest is not None:
                newest = await self.newest()
                async with self._engine.begin() as connection:
                    await give_above(connection, newest)
            self._condition.was_away = False
