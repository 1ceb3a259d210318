"""Originals that are missing, or still being written: looked at until they are there, without any job."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from storage.blobs import BlobInfo, Existence, Look

EVERY_S = 0.5
STILL_S = 1.0  # a file that has not changed for so long is worth another try
MOST = 10_000  # uploads; what is beyond comes back with its job

Sight = BlobInfo | Existence
"""How an original was when it was looked at; UNKNOWN: it was changing."""


@dataclass
class _Watched:
    source: str
    seen: Sight
    until: float
    last: Sight
    since: float


class Lookout:
    """What is put off because of its original, and due as soon as that has changed."""

    def __init__(self, blobs: Look, hasten: Callable[[Sequence[UUID]], Awaitable[None]]) -> None:
        self._blobs = blobs
        self._hasten = hasten
        self._watched: dict[UUID, _Watched] = {}

    def watch(self, upload_id: UUID, source: str, seen: Sight, for_s: float) -> None:
        """Hasten the upload if its original, `seen` so when it was tried, changes within `for_s`."""
        if len(self._watched) < MOST:
            now = time.monotonic()
            self._watched[upload_id] = _Watched(source, seen, now + for_s, Existence.UNKNOWN, now)

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Look once. Raises: StorageError, and what `hasten` does."""
        now = time.monotonic()
        self._watched = {one: watched for one, watched in self._watched.items() if watched.until > now}
        if not self._watched:
            return
        looked_at = dict(self._watched)  # others begin to watch while this waits
        found = await self._blobs.look(sorted({watched.source for watched in looked_at.values()}))
        due = [
            one
            for one, watched in looked_at.items()
            if self._watched.get(one) is watched and _is_due(watched, found[watched.source], now)
        ]
        for upload_id in due:
            del self._watched[upload_id]
        if due:
            await self._hasten(due)


def _is_due(watched: _Watched, found: Sight, now: float) -> bool:
    if not isinstance(found, BlobInfo) or _is_same(found, watched.seen):
        return False
    if watched.seen is Existence.MISSING:
        return True
    if not _is_same(found, watched.last):
        watched.last, watched.since = found, now
    return now - watched.since >= STILL_S


def _is_same(one: Sight, other: Sight) -> bool:
    """Whether a file is as it was; some file systems give it another number at each look."""
    if isinstance(one, BlobInfo) and isinstance(other, BlobInfo):
        return (one.bytes, one.changed_at) == (other.bytes, other.changed_at)
    return False
