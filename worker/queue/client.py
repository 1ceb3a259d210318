"""The queue: everything that a worker and the scripts ask of Redis, by topic; and the server itself."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from arq.connections import ArqRedis

from worker.domains import Domains
from worker.queue.announced import AnnouncedEvents
from worker.queue.app_streams import AppStreams
from worker.queue.connection import check_answers, connect
from worker.queue.corrupt_jobs import LONGEST_LOCK_MS
from worker.queue.errors import Refusal
from worker.queue.heartbeats import Heartbeats
from worker.queue.job_queues import JobQueues, job_queue_of
from worker.queue.jobs import Jobs
from worker.queue.limits import PublishedLimits
from worker.queue.mapping import maps_errors, unless_denied
from worker.queue.messages import Messages
from worker.queue.ownership import Ownership
from worker.queue.receipts import Receipts
from worker.queue.rights import try_rights
from worker.queue.stream import EventStream, waits_in_words
from worker.queue.token_uses import TokenUses
from worker.queue.upload_names import UploadNames

if TYPE_CHECKING:  # the settings check the URL, and so import this package
    from worker.settings import Settings


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

    def __init__(self, redis: ArqRedis, stream: EventStream, events: str, domains: Domains) -> None:
        self._redis = redis
        self._stream = stream
        self._events = events
        self._domains = domains

    async def refusal(self) -> Refusal | None:
        """What Redis refuses of all that a worker does; None: nothing. Raises: QueueUnavailable."""
        return await try_rights(self._redis, self._stream.name, self._events, self._domains)

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


class Queue:
    """The stream of events, the jobs made of them, the messages sent for them, and who works on them."""

    def __init__(
        self,
        redis: ArqRedis,
        stream: str,
        consumer: str,
        events_maxlen: int,
        events: str = "media:events",
        instance: str | None = None,
        longest_lock_ms: int = LONGEST_LOCK_MS,
        domains: Domains | None = None,
    ) -> None:
        self.redis = redis
        self.consumer = consumer
        self.heartbeats = Heartbeats(redis, stream)
        self.stream = EventStream(redis, stream, consumer, self.heartbeats)
        self.announced = AnnouncedEvents(redis, self.stream)
        self.ownership = Ownership(redis, stream)
        queues = JobQueues(redis, stream, instance, self.heartbeats, longest_lock_ms)
        self.jobs = Jobs(redis, stream, consumer, self.ownership, queues)
        self.messages = Messages(redis, events, events_maxlen)
        self.token_uses = TokenUses(redis, stream)
        self.upload_names = UploadNames(redis, stream)
        self.receipts = Receipts(redis, stream)
        self.apps = AppStreams(redis, consumer, domains or Domains(stream, events))
        ours = self.apps.domains
        taken = {stream, events, *ours.streams, *map(ours.messages_of, ours.all)}
        self.limits = PublishedLimits(redis, [stream, *ours.streams], taken)
        self.server = Server(redis, self.stream, events, self.apps.domains)

    async def depth(self) -> int:
        """How many events wait, those on streams of single apps included. Raises: QueueUnavailable."""
        return await self.stream.depth() + await self.apps.depth()

    async def oldest_age_s(self) -> int | None:
        """How long the oldest of them has waited; None: nothing waits. Raises: QueueUnavailable."""
        age, oldest_ms = await self.stream.oldest_age_s(), await self.apps.oldest_ms()
        if oldest_ms is None:
            return age
        return max(age or 0, (await self.stream.now_ms() - oldest_ms) // 1000)

    async def waits(self) -> str:
        """How many of them wait, and since when, for people. Raises: QueueUnavailable."""
        return waits_in_words(await self.depth(), await self.oldest_age_s())

    def __repr__(self) -> str:
        return f"<Queue: {self.stream.name} read by {self.consumer}>"


def queue_on(redis: ArqRedis, settings: "Settings", instance: str | None = None) -> Queue:
    """The queue on an open connection, with a new consumer; `instance`: of the worker that it is for."""
    consumer = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    longest_ms = max(LONGEST_LOCK_MS, int(4 * settings.lease * 1000))
    return Queue(
        redis,
        settings.stream,
        consumer,
        settings.events_maxlen,
        settings.events,
        instance,
        longest_ms,
        settings.domains,
    )


@asynccontextmanager
async def open_queue(settings: "Settings", *, must_answer: bool = True) -> AsyncIterator[Queue]:
    """Open the queue that the settings name, and close it at the end.

    Raises: QueueUnavailable where Redis does not answer, if it must.
    """
    redis = connect(settings.redis_url, job_queue_of(settings.stream))
    try:
        if must_answer:
            await check_answers(redis, settings.redis_url)
        yield queue_on(redis, settings)
    finally:
        await redis.aclose(close_connection_pool=True)
