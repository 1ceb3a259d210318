"""Sentinels: each new connection asks them where the primary is, so that a failover is followed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from worker.queue.refusals import ConnectionRefused, by_sentinel, no_sentinel

_LAST_PORT = 65_535
_ANSWERS_WITHIN_S = 2  # each of them, at the same time: one that is away must not hold up what others know


class _Primary(NamedTuple):
    epoch: int  # of the failover that made it the primary: the largest is the newest
    host: str
    port: int


class Sentinels:
    """The Sentinels that are asked for one primary."""

    def __init__(
        self,
        hosts: Sequence[tuple[str, int]],
        name: str,
        connection_class: type[Connection],
        options: Mapping[str, Any],
    ) -> None:
        self._hosts = hosts
        self._name = name
        self._class = connection_class
        self._options = {"socket_connect_timeout": _ANSWERS_WITHIN_S, **options}
        self.primary: tuple[str, int] | None = None
        """What they named last."""

    async def find_primary(self) -> tuple[str, int]:
        """Host and port by the newest answer of more than half of them, or of all that answer.

        A failover is agreed by more than half of them: one that was cut off misleads nobody.

        Raises: ConnectionRefused where more than half refuse; redis-py's ConnectionError where none names it.
        """
        asked = [asyncio.create_task(self._ask(host, port)) for host, port in self._hosts]
        try:
            newest = max([answer async for answer in _answers(asked)], default=None)
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if newest is None:
            raise _not_named([error for one in asked if (error := one.exception())])
        self.primary = newest.host, newest.port
        return self.primary

    async def _ask(self, host: str, port: int) -> _Primary:
        connection = self._class(host=host, port=port, **self._options)
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("SENTINEL", "MASTER", self._name)
                answer = await connection.read_response()
        except TimeoutError as error:
            raise RedisConnectionError(f"{host}:{port} does not answer") from error
        except RedisError as error:
            if refusal := by_sentinel(f"{host}:{port}", self._name, error):
                raise ConnectionRefused(refusal) from error
            raise
        finally:
            await connection.disconnect(nowait=True)
        try:
            return _read(answer)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ConnectionRefused(no_sentinel(f"{host}:{port}")) from error


def _read(words: Sequence[bytes]) -> _Primary:
    state = dict(zip(words[::2], words[1::2], strict=True))
    primary = _Primary(int(state[b"config-epoch"]), state[b"ip"].decode(), int(state[b"port"]))
    if not 0 < primary.port <= _LAST_PORT:
        raise ValueError(primary.port)
    return primary


async def _answers(asked: Sequence[asyncio.Task[_Primary]]) -> AsyncIterator[_Primary]:
    """The answers as they come, until more than half have answered."""
    count = 0
    for one in asyncio.as_completed(asked):
        try:
            yield await one
        except (RedisError, OSError):
            continue
        if (count := count + 1) > len(asked) / 2:
            return


def _not_named(errors: Sequence[BaseException]) -> RedisError:
    refusals = [error for error in errors if isinstance(error, ConnectionRefused)]
    if len(refusals) > len(errors) / 2:
        return refusals[0]
    return RedisConnectionError(f"no Sentinel names the primary: {'; '.join(map(str, errors))}")


class ToPrimary(Connection):
    """A connection that asks for the primary at each try, for a failover may take place between two."""

    sentinels: ClassVar[Sentinels]

    async def connect(self) -> None:
        """Connect, also anew: a former primary may not know that it is none, and loses what it accepts."""
        if (self.host, self.port) != self.sentinels.primary:
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        self.host, self.port = await self.sentinels.find_primary()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (as redis-py has it)
        try:
            return await super().read_response(*args, **options)
        except ReadOnlyError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the primary has become a replica") from error
