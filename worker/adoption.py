"""Adoption: originals that lie in the storage without a record are taken in, a page at a time."""

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import structlog

from pipelines.originals import announced_otherwise
from storage.blobs import BlobInfo, Inspect, list_infos
from storage.catalog import Catalog
from storage.catalog.clock import now_ms
from storage.catalog.records import DeadLetter, StreamId, UploadRequested
from storage.errors import KeyRefused
from storage.keys import UPLOADS, shown, source_key
from worker.events import default_id
from worker.queue import Queue

log = structlog.get_logger(__name__)

PAGE = 2000  # names a tick
PAUSE_S = 3600  # between the end of a walk and the next

ADOPTION = "adoption"  # the walk that all workers of a catalog share

Mode = Literal["enqueue", "report", "off"]


@dataclass(frozen=True)
class Page:
    """A stretch of the walk: how many names it had, the originals that nobody knows, and where it ended."""

    names: int
    unknown: Sequence[str]
    last: str | None
    strange: Sequence[str] = ()  # for people: what has a name that no source can have


class Adoption:
    """A resumable walk through `uploads/`, shared by all workers of a catalog under one name."""

    def __init__(
        self,
        blobs: Inspect,
        catalog: Catalog,
        queue: Queue,
        *,
        grace_s: float,
        name: str = ADOPTION,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._queue = queue
        self._grace_s = grace_s
        self._name = name

    async def tick(self, mode: Mode, *, pause_s: float = PAUSE_S) -> int:
        """Look at the next page if it is time to; returns how many originals have no record.

        Raises: StorageError, QueueUnavailable; the next tick begins at the same place.
        """
        walk = await self._catalog.walks.at(self._name)
        # The clock may have been put back since.
        resting = not walk.after and abs(now_ms() - walk.finished_ms) < pause_s * 1000
        if mode == "off" or resting:
            return 0
        page = await self.look(walk.after)
        if page.unknown:
            log.info("originals_without_record", mode=mode, count=len(page.unknown), first=page.unknown[0])
            if mode == "enqueue":
                await self._take_in(page.unknown)
        await self._move(page)
        return len(page.unknown)

    async def walk(self, seen: Callable[[Page], None]) -> None:
        """Walk from where the last walk stopped to the end, taking in everything."""
        after = (await self._catalog.walks.at(self._name)).after
        while True:
            page = await self.look(after)
            await self._take_in(page.unknown)
            await self._move(page)
            seen(page)
            if page.last is None:
                return
            after = page.last

    async def look(self, after: str) -> Page:
        """The next page of names, and which old enough originals among them have no record."""
        found: list[BlobInfo] = []
        strange: list[str] = []
        async with aclosing(list_infos(self._blobs, UPLOADS, after, passed_over=strange.append)) as names:
            async for info in names:
                found.append(info)
                if len(found) == PAGE:
                    break
        born_before = time.time() - self._grace_s
        old = [info for info in found if info.changed_at <= born_before and _is_source(info.key)]
        known = await self._catalog.walks.known_sources([info.key for info in old])
        unknown = [info for info in old if info.key not in known]
        known |= await announced_otherwise(unknown, self._catalog.walks, self._blobs)
        last = found[-1].key if len(found) == PAGE else None
        strange += [info.key for info in found if not _is_source(info.key)]
        # A listing looks ahead: what lies behind the page is met again by the next one.
        met = sorted({path for path in strange if after < path and (last is None or path <= last)})
        return Page(
            len(found),
            [info.key for info in unknown if info.key not in known],
            last,
            [shown(path) for path in met],
        )

    async def _take_in(self, sources: Sequence[str]) -> None:
        nobody = DeadLetter("0-0", "invalid_event", "an adopted upload has no event", b"")
        requests = [
            UploadRequested(StreamId(), default_id(source), source, "default", adopted=True)
            for source in sources
        ]
        taken = await self._catalog.intake.take([(request, nobody) for request in requests], [])
        await self._queue.jobs.enqueue(taken.jobs)

    async def _move(self, page: Page) -> None:
        if page.last is not None:
            await self._catalog.walks.moved(self._name, page.last, page.strange)
            return
        walk = await self._catalog.walks.ended(self._name, page.strange)
        if walk.strange:
            log.warning("names_passed_over", count=walk.strange, first=walk.first_strange)


def _is_source(key: str) -> bool:
    try:
        source_key(key)
    except KeyRefused:
        return False
    return True
