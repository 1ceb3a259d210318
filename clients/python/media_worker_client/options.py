"""What may be said to a client: its defaults, and which options go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Union

from media_worker_client.connections import block_s, own_name
from media_worker_client.cursors import Cursor, MemorySeqs, SeqStore
from media_worker_client.reading import Handler, Listening, Pending

STREAM = "media:uploads"
EVENTS = "media:events"


class StopEvent(Protocol):
    """An event of `threading` or of `asyncio`."""

    def is_set(self) -> bool:
        """Whether it has happened."""


Stop = Union[StopEvent, Callable[[], bool]]
"""Says when to end: an event, or a function."""


def stopped_by(stop: Stop | None) -> Callable[[], bool]:
    """Whether it is time to end."""
    if stop is None:
        return lambda: False
    if callable(stop):
        return stop
    return stop.is_set


def listening(
    redis: Any,  # noqa: ANN401 (redis.Redis or redis.asyncio.Redis)
    stream: str,
    events: str,
    handler: Handler,
    group: str | None,
    consumer: str | None,
    cursor: Cursor | None,
    stop: Stop | None,
    pending: Pending | None,
    seqs: SeqStore | None,
    claim_after: float,
) -> Listening:
    """What a listener is asked for. Raises: ValueError for options that exclude each other."""
    if group is not None and cursor is not None:
        raise ValueError("Either a group keeps how far it has come, or a cursor does: give one of them.")
    if consumer is not None and group is None:
        raise ValueError("A consumer is one of a group: give it, too.")
    if claim_after <= 0:
        raise ValueError("claim_after is a number of seconds above 0.")
    return Listening(
        handler=handler,
        events=events,
        stream=stream,
        stopped=stopped_by(stop),
        seqs=MemorySeqs() if seqs is None else seqs,
        block_s=block_s(redis, may_stop=stop is not None),
        pending=pending,
        group=group,
        consumer=own_name() if consumer is None else consumer,
        is_own_name=consumer is None,
        claim_after_s=claim_after,
        cursor=cursor,
    )
