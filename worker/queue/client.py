"""The queue: everything that a worker and the scripts ask of Redis, by topic."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from arq.connections import ArqRedis

from worker.queue.connection import check_answers, connect
from worker.queue.heartbeats import Heartbeats
from worker.queue.jobs import Jobs, job_queue_of
from worker.queue.messages import Messages
from worker.queue.ownership import Ownership
from worker.queue.server import Server
from worker.queue.stream import EventStream

if TYPE_CHECKING:  # the settings check the URL, and so import this package
    from worker.settings import Settings


class Queue:
    """The stream of events, the jobs made of them, the messages sent for them, and who works on them."""

    def __init__(
        self,
        redis: ArqRedis,
        stream: str,
        consumer: str,
        events_maxlen: int,
        events: str = "media:events",
    ) -> None:
        self.redis = redis
        self.consumer = consumer
        self.stream = EventStream(redis, stream, consumer)
        self.ownership = Ownership(redis, stream)
        self.jobs = Jobs(redis, stream, consumer, self.ownership)
        self.messages = Messages(redis, events, events_maxlen)
        self.heartbeats = Heartbeats(redis, stream)
        self.server = Server(redis, self.stream, events)

    def __repr__(self) -> str:
        return f"<Queue: {self.stream.name} read by {self.consumer}>"


def queue_on(redis: ArqRedis, settings: "Settings") -> Queue:
    """The queue on an open connection, with a new consumer."""
    consumer = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    return Queue(redis, settings.stream, consumer, settings.events_maxlen, settings.events)


@asynccontextmanager
async def open_queue(settings: "Settings") -> AsyncIterator[Queue]:
    """Open the queue that the settings name, and close it at the end. Raises: QueueUnavailable."""
    redis = connect(settings.redis_url, job_queue_of(settings.stream))
    try:
        await check_answers(redis, settings.redis_url)
        yield queue_on(redis, settings)
    finally:
        await redis.aclose(close_connection_pool=True)
