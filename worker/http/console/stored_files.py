"""What the storage has of an upload's files: looked at for a moment, while a page is made."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.blobs import BlobInfo, Existence, Stat
from storage.catalog.records import Upload
from storage.errors import StorageError
from worker.http.console.bounded import WITHIN_S
from worker.http.face import Face

MOST_LOOKS = 4  # at once: those at a storage that hangs fill no pool

Seen = Mapping[str, BlobInfo | Existence]


@dataclass(frozen=True)
class GoneFiles:
    """Which files of an upload are surely not in the storage."""

    variants: frozenset[str] = frozenset()
    """Their keys."""
    original: bool = False

    def __bool__(self) -> bool:
        return self.original or bool(self.variants)


class StoredFiles:
    """Looks into the storage of a face; what it does not say in time, nobody waits for."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._looking: set[asyncio.Task[Seen]] = set()

    async def gone(self, upload: Upload) -> GoneFiles:
        """Which of an upload's files are not there, as far as that is known in time."""
        sources = [] if upload.source is None else [upload.source]
        seen = await self.seen([*(one.key for one in upload.variants), *sources])
        missing = {key for key, found in seen.items() if found is Existence.MISSING}
        variants = frozenset(one.key for one in upload.variants if one.key in missing)
        return GoneFiles(variants, upload.source in missing)

    async def is_there(self, key: str) -> bool:
        """Whether a file is there for sure."""
        return isinstance((await self.seen([key])).get(key), BlobInfo)

    async def seen(self, keys: Sequence[str]) -> Seen:
        """What is known of those files in time: nothing of some of them, or of all."""
        if not keys or len(self._looking) >= MOST_LOOKS:
            return {}
        blobs: Stat = self._face.stores.blobs
        looking = asyncio.create_task(_look(blobs, keys))
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)
        done, _ = await asyncio.wait({looking}, timeout=WITHIN_S)
        return looking.result() if done else {}


async def _look(blobs: Stat, keys: Sequence[str]) -> Seen:
    try:
        return await blobs.stat(keys)
    except StorageError:
        return {}
