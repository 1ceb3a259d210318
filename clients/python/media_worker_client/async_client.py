"""The client over Redis, and the outbox, for asyncio: the shells that await each step."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

import redis as redis_py
from redis import asyncio as redis_asyncio
from redis.client import NEVER_DECODE

from media_worker_client.asking import ask_status, read_limits, send
from media_worker_client.connections import SOCKET_TIMEOUT_S, block_s
from media_worker_client.cursors import Cursor, SeqStore
from media_worker_client.events import UploadId, delete_event, upload_event
from media_worker_client.listening import listen
from media_worker_client.messages import Message, Upload
from media_worker_client.options import EVENTS, STREAM, Stop, listening, stopped_by
from media_worker_client.resending import Resending, Sender
from media_worker_client.steps import Call, Command, Step, Steps

T = TypeVar("T")
Ids = Iterable[UploadId]
Events = Iterable[Mapping[str, Any]]


class AsyncMediaClient:
    """`MediaClient` for asyncio: the same verbs, which are awaited; so are handlers, cursors and other
    functions of the app's, where they are coroutines.
    """

    def __init__(
        self,
        redis: str | redis_asyncio.Redis,
        *,
        stream: str = STREAM,
        events: str = EVENTS,
    ) -> None:
        """`redis` is a URL, or a client of `redis.asyncio`. `stream` and `events` are the worker's
        `MEDIA_STREAM` and `MEDIA_EVENTS`.
        """
        if isinstance(redis, redis_py.Redis):
            raise TypeError("That Redis is one for threads: give one of redis.asyncio, or use MediaClient.")
        self._is_own = isinstance(redis, str)
        self.redis: redis_asyncio.Redis = (
            redis_asyncio.Redis.from_url(redis, socket_timeout=SOCKET_TIMEOUT_S)
            if isinstance(redis, str)
            else redis
        )
        self.stream = stream
        self.events = events

    async def announce(
        self,
        source: str,
        *,
        id: UploadId | None = None,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Say that there is an original under the key `source`; returns the upload's id."""
        return await self._announce(
            upload_event(
                source, id=id, recipe=recipe, metadata=metadata, owner=owner, traceparent=traceparent
            )
        )

    async def replace(
        self,
        old: UploadId,
        source: str,
        *,
        id: UploadId | None = None,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Announce an original that takes the place of the upload `old`; returns the new upload's id."""
        return await self._announce(
            upload_event(
                source,
                id=id,
                recipe=recipe,
                metadata=metadata,
                owner=owner,
                traceparent=traceparent,
                replaces=old,
            )
        )

    async def delete(self, id: UploadId, *, original: bool = False, traceparent: str | None = None) -> None:
        """Delete an upload and its variants, with `original` what was uploaded, where that is allowed."""
        await self.send(delete_event(id, original=original, traceparent=traceparent))

    async def status(self, id: UploadId, *, timeout: float = 5.0) -> Upload | None:
        """The upload as a worker has it now; None where it knows none of that id.

        Raises: MediaTimeout where no worker answers within `timeout` seconds.
        """
        blocking = block_s(self.redis, may_stop=False)
        return await self._run(ask_status(self.stream, self.events, id, timeout, blocking))

    async def limits(self) -> dict[str, Any]:
        """What uploads may be. Raises: MediaError where no worker has said so yet."""
        return await self._run(read_limits(self.stream))

    async def send(self, event: Mapping[str, Any]) -> str:
        """Send an event as it is; returns its ID on the stream."""
        return await self._run(send(self.stream, event))

    async def listen(
        self,
        handler: Callable[[Message], Any],
        group: str | None = None,
        consumer: str | None = None,
        cursor: Cursor | None = None,
        stop: Stop | None = None,
        *,
        pending: Callable[[], Ids | Awaitable[Ids]] | None = None,
        seqs: SeqStore | None = None,
        claim_after: float = 60.0,
    ) -> None:
        """Call, and await, `handler` with each message, one after the other, until `stop` says so or the task
        is cancelled: see `MediaClient.listen`.
        """
        asked = listening(
            self.redis,
            self.stream,
            self.events,
            handler,
            group,
            consumer,
            cursor,
            stop,
            pending,
            seqs,
            claim_after,
        )
        await self._run(listen(asked))

    async def close(self) -> None:
        """Close the connections, unless the client of redis-py is the app's own."""
        if self._is_own:
            await self.redis.connection_pool.disconnect()

    async def __aenter__(self) -> AsyncMediaClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _announce(self, event: Mapping[str, Any]) -> str:
        await self.send(event)
        return str(event["id"])

    async def _run(self, steps: Steps[T]) -> T:
        return await run(steps, self.redis)


class AsyncOutbox:
    """`Outbox` for asyncio."""

    def __init__(
        self,
        client: Sender,
        pending: Callable[[], Events | Awaitable[Events]],
        every: float = 60.0,
    ) -> None:
        """`client` is any of this package that has `send`."""
        self._resending = Resending(client.send, pending, every)

    async def flush(self) -> int:
        """Send what is due; returns how many events."""
        return await run(self._resending.flush())

    async def run(self, stop: Stop | None = None) -> None:
        """Send what is due again and again, until `stop` says so or the task is cancelled."""
        await run(self._resending.run(stopped_by(stop)))


async def run(steps: Steps[T], redis: redis_asyncio.Redis | None = None) -> T:
    """Take all steps of a procedure, and return its result."""
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    reply = await _take(step, redis)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result


async def _take(step: Step, redis: redis_asyncio.Redis | None) -> Any:  # noqa: ANN401 (whatever comes of it)
    if isinstance(step, Command):
        assert redis is not None
        execute: Any = redis.execute_command
        return await execute(*step.words, **{NEVER_DECODE: True}, **step.options)
    if isinstance(step, Call):
        result = step.function(*step.arguments)
        return await result if inspect.isawaitable(result) else result
    await asyncio.sleep(step.seconds)
    return None
