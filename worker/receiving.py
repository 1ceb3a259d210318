"""Receiving an original: its bytes go to the storage root, then its event to the stream."""

import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol
from uuid import UUID

from pipelines.digests import content_sha256
from pipelines.errors import PictureRefused
from storage.blobs import BlobInfo, Open, Put, Stat
from storage.errors import BlobNotFound, BlobRefused
from storage.filenames import FILENAME
from storage.keys import received_key
from storage.threads import in_thread
from worker.queue.stream import EventStream
from worker.upload_ids import default_id

Read = Callable[[], AsyncIterator[bytes]]
"""Reads the content from its beginning; it is called twice."""

_LONGEST_NAME = 255  # characters: more than a file system takes, and at most 1.5 KiB as JSON
_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")


class ReceivingBlobs(Open, Put, Stat, Protocol):
    """The verbs of a storage that receiving uses."""


@dataclass(frozen=True)
class Received:
    """An original in the storage root, the id of its upload, and the name of the file that it was."""

    id: UUID
    source: str
    filename: str


class Receiver:
    """Stores originals of at most `max_bytes` in `uploads/<folder>/`, and announces them."""

    def __init__(self, blobs: ReceivingBlobs, stream: EventStream, max_bytes: int, folder: str) -> None:
        self._blobs = blobs
        self._stream = stream
        self._max_bytes = max_bytes
        self._folder = folder

    async def store(self, read: Read, name: str) -> Received:
        """Store a content under its hash: the same content is one upload, whatever its `name`.

        What is there already stays, unless it is torn or damaged.

        Raises: PictureRefused if it is too large, StorageError, and what `read` raises.
        """
        sha256, size = await self._hash(read)
        source = received_key(self._folder, sha256, _extension(name))
        if not await self._is_whole(source, sha256, size):
            await self._blobs.put(source, read())
        return Received(default_id(source), source, _readable(name))

    async def announce(self, received: Received, recipe: str, traceparent: str | None = None) -> str:
        """Send the event of a stored original; returns the ID of its entry. Raises: QueueUnavailable.

        Of several files of one content, which are one upload, the last has given it its name.
        """
        metadata = {FILENAME: received.filename}
        event = {"source": received.source, "recipe": recipe, "metadata": metadata}
        return await self._stream.add(event | ({"traceparent": traceparent} if traceparent else {}))

    async def _is_whole(self, key: str, sha256: str, size: int) -> bool:
        """Whether that content is there. Of one that would have to be fetched, the size decides alone."""
        info = (await self._blobs.stat([key]))[key]
        if not isinstance(info, BlobInfo) or info.bytes != size:
            return False
        try:
            async with self._blobs.open(key, fetched=False) as stored:
                return not stored.is_at_hand or await in_thread(content_sha256, stored.fd) == sha256
        except (BlobNotFound, BlobRefused):
            return False

    async def _hash(self, read: Read) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        async for chunk in read():
            size += len(chunk)
            if size > self._max_bytes:
                raise PictureRefused("source_too_large", f"The file has more than {self._max_bytes} bytes.")
            digest.update(chunk)
        return digest.hexdigest(), size


def _readable(name: str) -> str:
    r"""The name as text, with bytes that are not UTF-8 as `\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")[:_LONGEST_NAME]


def _extension(name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    return suffix if _EXTENSION.fullmatch(suffix) else ""
