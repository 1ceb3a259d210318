"""The server: its version, role and configuration, and what it refuses."""

from dataclasses import dataclass

from arq.connections import ArqRedis

from worker.queue.errors import Refusal
from worker.queue.mapping import maps_errors, unless_denied
from worker.queue.rights import try_rights
from worker.queue.stream import EventStream


@dataclass(frozen=True)
class ServerInfo:
    """What INFO and CONFIG report of a Redis; None where this user may not ask.

    `largest_bytes` is the largest value that it accepts; `ahead_ms` how far the stream's IDs are ahead of its
    clock.
    """

    version: str | None
    role: str | None
    keeps_data: bool | None
    policy: str | None
    largest_bytes: int | None = None
    ahead_ms: int = 0


@maps_errors
class Server:
    """The Redis of one stream."""

    def __init__(self, redis: ArqRedis, stream: EventStream, events: str) -> None:
        self._redis = redis
        self._stream = stream
        self._events = events

    async def refusal(self) -> Refusal | None:
        """What Redis refuses of all that a worker does; None: nothing. Raises: QueueUnavailable."""
        return await try_rights(self._redis, self._stream.name, self._events)

    async def info(self) -> ServerInfo:
        """The server's version, role and configuration. Raises: QueueUnavailable."""
        info = await unless_denied(self._redis.info()) or {}
        return ServerInfo(
            version=info.get("valkey_version") or info.get("redis_version"),
            role=info.get("role"),
            keeps_data=None if "aof_enabled" not in info else bool(info["aof_enabled"]),
            policy=info.get("maxmemory_policy"),
            largest_bytes=await self._largest_bytes(),
            ahead_ms=await self._stream.ahead_ms(),
        )

    async def _largest_bytes(self) -> int | None:
        found = await unless_denied(self._redis.config_get("proto-max-bulk-len")) or {}
        size = found.get("proto-max-bulk-len")
        return int(size) if size else None
