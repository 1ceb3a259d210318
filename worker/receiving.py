"""Receiving an original: its bytes go to the storage root, then its event to the stream."""

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol
from uuid import UUID

from pipelines.errors import PictureRefused
from storage.blobs import BlobInfo, Put, Stat
from storage.keys import received_key
from worker.events import default_id
from worker.queue.stream import EventStream

Read = Callable[[], AsyncIterator[bytes]]
"""Reads the content from its beginning; it is called twice."""

_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")


class ReceivingBlobs(Put, Stat, Protocol):
    """The verbs of a storage that receiving uses."""


@dataclass(frozen=True)
class Received:
    """An original in the storage root, and the id of its upload."""

    id: UUID
    source: str


class Receiver:
    """Stores originals of at most `max_bytes` in `uploads/<folder>/`, and announces them."""

    def __init__(self, blobs: ReceivingBlobs, stream: EventStream, max_bytes: int, folder: str) -> None:
        self._blobs = blobs
        self._stream = stream
        self._max_bytes = max_bytes
        self._folder = folder

    async def store(self, read: Read, name: str) -> Received:
        """Store a content under its hash: the same content is one upload, whatever its `name`.

        Raises: PictureRefused if it is too large, StorageError, and what `read` raises.
        """
        sha256 = await self._hash(read)
        source = received_key(self._folder, sha256, _extension(name))
        if not isinstance((await self._blobs.stat([source]))[source], BlobInfo):
            await self._blobs.put(source, read())
        return Received(default_id(source), source)

    async def announce(self, received: Received, recipe: str, traceparent: str | None = None) -> str:
        """Send the event of a stored original; returns the ID of its entry. Raises: QueueUnavailable."""
        event = {"source": received.source, "recipe": recipe}
        return await self._stream.add(event | ({"traceparent": traceparent} if traceparent else {}))

    async def _hash(self, read: Read) -> str:
        digest, size = hashlib.sha256(), 0
        async for chunk in read():
            size += len(chunk)
            if size > self._max_bytes:
                raise PictureRefused("source_too_large", f"The file has more than {self._max_bytes} bytes.")
            digest.update(chunk)
        return digest.hexdigest()


def _extension(name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    return suffix if _EXTENSION.fullmatch(suffix) else ""
