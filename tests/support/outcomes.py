"""Uploads that become ready by the catalog's own verbs, and are told as a worker tells them."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.outbox import insert_messages
from storage.catalog.records import Message, State
from tests.support.catalogs import claim, commit, ready, take, upload_event
from worker.documents import payload
from worker.queue import Queue, connect, job_queue_of
from worker.upload_ids import default_id

_places = itertools.count(1)


@dataclass
class Outcomes:
    """What happens in one catalog."""

    catalog: Catalog
    queue: Queue
    made: list[Message] = field(default_factory=list)

    async def queued(self, source: str) -> UUID:
        """An upload that waits."""
        await take(self.catalog, upload_event(next(_places), default_id(source), source))
        return default_id(source)

    async def finish(self, upload_id: UUID, *, announced: bool = True) -> Message:
        """It is ready now."""
        committed = await commit(self.catalog, ready(await claim(self.catalog, upload_id)))
        assert committed.message is not None
        await self._tell([committed.message], announced=announced)
        return committed.message

    async def ready(self, source: str, *, announced: bool = True) -> Message:
        """An upload that came, and is ready."""
        return await self.finish(await self.queued(source), announced=announced)

    async def flood(self, count: int, bytes_each: int = 0, source: str | None = None) -> Sequence[Message]:
        """So many messages at once, of that size, about no upload."""
        metadata = {"filled": "x" * bytes_each}
        new = [Message(0, State.DELETED, None, source, "default", metadata, 1) for _ in range(count)]
        async with self.catalog.database.writing() as connection:
            messages = await insert_messages(connection, new)
        await self._tell(messages, announced=True)
        return messages

    async def announce(self, messages: Sequence[Message]) -> None:
        """Send them, as the publisher of a worker does."""
        await self.queue.messages.send([payload(message) for message in messages])

    async def _tell(self, messages: Sequence[Message], *, announced: bool) -> None:
        self.made += messages
        if announced:
            await self.announce(messages)


@asynccontextmanager
async def outcomes_at(catalog_url: str, redis_url: str) -> AsyncIterator[Outcomes]:
    """What happens in the catalog of an installation that is there."""
    redis = connect(redis_url, job_queue_of("media:uploads"))
    try:
        async with open_catalog(catalog_url, create=False) as catalog:
            yield Outcomes(catalog, Queue(redis, "media:uploads", "me", 10_000))
    finally:
        await redis.aclose(close_connection_pool=True)
