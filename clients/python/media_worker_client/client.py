"""The client over Redis, and the outbox: the shells that take each step at once."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

import redis as redis_py
from redis import asyncio as redis_asyncio
from redis.client import NEVER_DECODE

from media_worker_client.announcing import Announcing
from media_worker_client.asking import ask_status, read_limits, send
from media_worker_client.connections import SOCKET_TIMEOUT_S, block_s
from media_worker_client.cursors import Cursor, SeqStore
from media_worker_client.errors import NotAwaitedError
from media_worker_client.events import UploadId
from media_worker_client.listening import listen
from media_worker_client.messages import Message, Upload
from media_worker_client.options import EVENTS, STREAM, Stop, listening, stopped_by
from media_worker_client.resending import Resending, Sender
from media_worker_client.steps import Call, Command, Step, Steps

T = TypeVar("T")


class MediaClient(Announcing):
    """Announces, deletes and asks about uploads over Redis, and listens to what becomes of them.

    All but `listen` may be used by many threads. What Redis refuses, and its absence, raise errors
    of redis-py.
    """

    def __init__(
        self,
        redis: str | redis_py.Redis,
        *,
        stream: str = STREAM,
        events: str = EVENTS,
    ) -> None:
        """`redis` is a URL, or a client of redis-py. `stream` and `events` are the worker's
        `MEDIA_STREAM` and `MEDIA_EVENTS`.
        """
        if isinstance(redis, redis_asyncio.Redis):
            raise TypeError("That Redis is one for asyncio: give it to AsyncMediaClient.")
        self._is_own = isinstance(redis, str)
        self.redis: redis_py.Redis = (
            redis_py.Redis.from_url(redis, socket_timeout=SOCKET_TIMEOUT_S)
            if isinstance(redis, str)
            else redis
        )
        self.stream = stream
        self.events = events

    def status(self, id: UploadId, *, timeout: float = 5.0) -> Upload | None:
        """The upload as a worker has it now; None where it knows none of that id.

        Raises: MediaTimeout where no worker answers within `timeout` seconds.
        """
        blocking = block_s(self.redis, may_stop=False)
        return self._run(ask_status(self.stream, self.events, id, timeout, blocking))

    def limits(self) -> dict[str, Any]:
        """What uploads may be: `max_bytes`, `max_pixels`, `formats`, `recipes`, as `GET /v1/limits` tells it.

        Raises: MediaError where no worker has said so yet.
        """
        return self._run(read_limits(self.stream))

    def send(self, event: Mapping[str, Any]) -> str:
        """Send an event as it is; returns its ID on the stream."""
        return self._run(send(self.stream, event))

    def listen(
        self,
        handler: Callable[[Message], Any],
        group: str | None = None,
        consumer: str | None = None,
        cursor: Cursor | None = None,
        stop: Stop | None = None,
        *,
        pending: Callable[[], Iterable[UploadId]] | None = None,
        seqs: SeqStore | None = None,
        claim_after: float = 60.0,
    ) -> None:
        """Call `handler` with each message, until `stop` (an event, or a function) says so.

        With a `group`, consumers of that name share the messages, and Redis keeps which are handled; what a
        consumer leaves for `claim_after` seconds, another takes. With a `cursor`, this listener has all of
        them, from where the cursor says. With neither, it has those that come from now on.

        A message counts as handled once `handler` has returned. If it raises, the message is tried again,
        later each time; messages about other uploads go on, those about the same one wait for it. Messages
        that are not newer than the last one about their upload, by `seq`, are dropped; `seqs` keeps those.

        Where messages were lost, because the stream was trimmed or Redis has lost it, `pending` is asked for
        the ids of uploads that the app waits for, and their state comes to the handler as a message.
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
        self._run(listen(asked))

    def close(self) -> None:
        """Close the connections, unless the client of redis-py is the app's own."""
        if self._is_own:
            self.redis.close()
            self.redis.connection_pool.disconnect()

    def __enter__(self) -> MediaClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        return run(steps, self.redis)


class Outbox:
    """Sends again what has no answer, so that no upload is lost with Redis.

    `pending` tells the events that have none, as `client.announce` and `delete` would send them:
    `{"source": ..., "metadata": ...}` or `{"delete": id}`. They are sent every `every` seconds, each one less
    and less often. What no worker would take is logged, and holds up nothing.
    """

    def __init__(
        self,
        client: Sender,
        pending: Callable[[], Iterable[Mapping[str, Any]]],
        every: float = 60.0,
    ) -> None:
        """`client` is any of this package that has `send`."""
        self._resending = Resending(client.send, pending, every)

    def flush(self) -> int:
        """Send what is due; returns how many events."""
        return run(self._resending.flush())

    def run(self, stop: Stop | None = None) -> None:
        """Send what is due again and again, until `stop` says so."""
        run(self._resending.run(stopped_by(stop)))


def run(steps: Steps[T], redis: redis_py.Redis | None = None) -> T:
    """Take all steps of a procedure, and return its result."""
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    reply = _take(step, redis)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result


def _take(step: Step, redis: redis_py.Redis | None) -> Any:  # noqa: ANN401 (whatever comes of it)
    if isinstance(step, Command):
        assert redis is not None
        execute: Any = redis.execute_command
        return execute(*step.words, **{NEVER_DECODE: True}, **step.options)
    if isinstance(step, Call):
        result = step.function(*step.arguments)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise NotAwaitedError(
                f"{step.function!r} is for asyncio: use AsyncMediaClient, AsyncOutbox or AsyncFakeMedia."
            )
        return result
    time.sleep(step.seconds)
    return None
