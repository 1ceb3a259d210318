"""What the HTTP face has announced: found by its id until a worker has taken its event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from arq.connections import ArqRedis

from worker.queue.mapping import maps_errors
from worker.queue.stream import FIELD, EventStream

KEPT_S = 3600  # since it was announced or looked up; a place is 150 bytes of Redis' memory


@dataclass(frozen=True)
class AnnouncedEvent:
    """An event that was announced, where and when, in ms by Redis' clock; None: it was taken since."""

    body: bytes | None
    time_ms: int
    entry_id: str


@maps_errors
class AnnouncedEvents:
    """The places of events in the stream, by the ids of their uploads."""

    def __init__(self, redis: ArqRedis, stream: EventStream) -> None:
        self._redis = redis
        self._stream = stream

    async def add(self, upload_id: UUID, event: Mapping[str, Any]) -> str:
        """Put an event on the stream, and note where; returns the entry's ID."""
        entry_id = await self._stream.add(event)
        await self._redis.set(self._key(upload_id), entry_id, ex=KEPT_S)
        return entry_id

    async def find(self, upload_id: UUID) -> AnnouncedEvent | None:
        """The newest event of that upload; None: there was none lately."""
        place: bytes | None = await self._redis.getex(self._key(upload_id), ex=KEPT_S)
        if place is None:
            return None
        found = await self._redis.xrange(self._stream.name, place, place)
        body = found[0][1].get(FIELD.encode()) if found else None
        entry_id = place.decode()
        return AnnouncedEvent(body, int(entry_id.partition("-")[0]), entry_id)

    def _key(self, upload_id: UUID) -> str:
        return f"{self._stream.name}:announced:{upload_id}"
