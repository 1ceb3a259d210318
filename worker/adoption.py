"""Adoption: originals without a record are taken in, page by page; a rebuild takes in all of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from pipelines.metrics import NO_METRICS, Metrics
from pipelines.originals import announced_otherwise
from storage.blobs import BlobInfo, Existence, Inspect, Storage
from storage.catalog.intake import admit_none
from storage.catalog.opening import Catalog
from storage.catalog.records import DeadLetter, StreamId, UploadRequested
from storage.errors import KeyRefused
from storage.keys import UPLOADS, shown, source_key
from worker.publisher import go_on_above
from worker.queue import Queue
from worker.upload_ids import default_id

log = structlog.get_logger(__name__)

PAGE = 2000  # names a tick
PAUSE_S = 3600  # between the end of a listing and the next

ADOPTION = "adoption"  # the listing that all workers of a catalog share
REBUILD = "rebuild"  # the listing of originals that gives a root to a new catalog

Mode = Literal["enqueue", "report", "off"]


@dataclass(frozen=True)
class Listing:
    """How far `uploads/` has been listed, and when the last listing reached the end (ms)."""

    after: str = ""  # the last key that was listed; empty: the next listing has not begun
    finished_ms: int = 0
    newest: int = 0  # the number of the newest upload there was at that end
    misnamed: int = 0  # names so far that no key can have
    first_misnamed: str = ""  # for people


async def listing_of(catalog: Catalog, name: str) -> Listing:
    """How far the listing of that name has come. Raises: CatalogUnavailable."""
    return Listing(**(await catalog.checkpoint(name).load() or {}))


@dataclass(frozen=True)
class Page:
    """A stretch of a listing: how many names it had, the originals that nobody knows, and where it ended."""

    names: int
    unknown: Sequence[str]
    last: str | None
    misnamed: Sequence[str] = ()  # for people: what has a name that no source can have


class Adoption:
    """A resumable listing of `uploads/`, shared by all workers of a catalog under one name."""

    def __init__(
        self,
        blobs: Inspect,
        catalog: Catalog,
        *,
        grace_s: float,
        name: str = ADOPTION,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._grace_s = grace_s
        self._now_ms = catalog.database.now_ms
        self._name = name
        self._metrics = metrics

    async def tick(self, mode: Mode, *, pause_s: float = PAUSE_S) -> int:
        """Look at the next page if it is time to; returns how many originals have no record.

        Raises: StorageError; the next tick begins at the same place.
        """
        listing = await listing_of(self._catalog, self._name)
        # The clock may have been put back since.
        resting = not listing.after and abs(self._now_ms() - listing.finished_ms) < pause_s * 1000
        if mode == "off" or resting:
            return 0
        page = await self.page(listing.after)
        if page.unknown:
            log.info("originals_without_record", mode=mode, count=len(page.unknown), first=page.unknown[0])
            if mode == "enqueue":
                await self._take_in(page.unknown)
        await self._move(page)
        return len(page.unknown)

    async def run(self) -> AsyncIterator[Page]:
        """Take in everything from where the last listing stopped to the end, and yield each page."""
        after: str | None = (await listing_of(self._catalog, self._name)).after
        while after is not None:
            page = await self.page(after)
            await self._take_in(page.unknown)
            await self._move(page)
            yield page
            after = page.last

    async def look(self) -> AsyncIterator[Page]:
        """Yield each page from the beginning, and take nothing in."""
        after: str | None = ""
        while after is not None:
            page = await self.page(after)
            yield page
            after = page.last

    async def page(self, after: str) -> Page:
        """The next page of names, and which old enough originals among them have no record."""
        found: list[BlobInfo] = []
        misnamed: list[str] = []
        async with aclosing(self._blobs.list_infos(UPLOADS, after, on_misnamed=misnamed.append)) as names:
            async for info in names:
                found.append(info)
                if len(found) == PAGE:
                    break
        born_before = self._now_ms() / 1000 - self._grace_s
        old = [info for info in found if info.changed_at <= born_before and _is_source(info.key)]
        known = await self._catalog.sources.known([info.key for info in old])
        unknown = [info for info in old if info.key not in known]
        known |= await announced_otherwise(unknown, self._catalog.sources, self._blobs)
        last = found[-1].key if len(found) == PAGE else None
        misnamed += [info.key for info in found if not _is_source(info.key)]
        # A listing looks ahead: what lies behind the page is met again by the next one.
        met = sorted({path for path in misnamed if after < path and (last is None or path <= last)})
        return Page(
            len(found),
            await self._there([info.key for info in unknown if info.key not in known]),
            last,
            [shown(path) for path in met],
        )

    async def _there(self, keys: Sequence[str]) -> Sequence[str]:
        """Without those that a listing alone shows: that of a bucket shows an object `a.jpg/` as `a.jpg`."""
        seen = await self._blobs.stat(keys)
        return [key for key in keys if seen[key] is not Existence.MISSING]

    async def _take_in(self, sources: Sequence[str]) -> None:
        nobody = DeadLetter("0-0", "invalid_event", "an adopted upload has no event", b"")
        requests = [
            UploadRequested(StreamId(), default_id(source), source, "default", adopted=True)
            for source in sources
        ]
        await self._catalog.intake.take([(request, nobody) for request in requests], [], admit=admit_none)
        self._metrics.recovered("adopted", len(sources))

    async def _move(self, page: Page) -> None:
        listing = await listing_of(self._catalog, self._name)
        if not listing.after:  # the names of the listing before do not count
            listing = replace(listing, misnamed=0, first_misnamed="")
        first = listing.first_misnamed or next(iter(page.misnamed), "")
        listing = replace(
            listing,
            after=page.last or "",
            misnamed=listing.misnamed + len(page.misnamed),
            first_misnamed=first,
        )
        if page.last is None:
            newest = await self._catalog.sources.newest()
            listing = replace(listing, finished_ms=self._now_ms(), newest=newest)
        await self._catalog.checkpoint(self._name).save(listing)
        if page.last is None and listing.misnamed:
            log.warning("names_passed_over", count=listing.misnamed, first=listing.first_misnamed)


async def is_rebuild_interrupted(catalog: Catalog) -> bool:
    """Whether a rebuild of this catalog has begun and not ended. Raises: CatalogUnavailable."""
    progress = await catalog.checkpoint(REBUILD).load()
    return progress is not None and not progress["finished_ms"]


async def rebuild(catalog: Catalog, blobs: Storage, queue: Queue) -> AsyncIterator[int]:
    """Tie stream and root to the catalog, then queue every original; yields how many, page by page.

    Each step may be repeated: after an interruption, call it again. Raises: StorageError, QueueUnavailable.
    """
    await queue.ownership.rebind(catalog.id, before=await blobs.catalog_id())
    await blobs.rebind(catalog.id)
    await catalog.checkpoint(REBUILD).save(await listing_of(catalog, REBUILD))
    await catalog.database.mark_bound()
    await go_on_above(catalog.outbox, queue, rebuilt=True)
    async for page in Adoption(blobs, catalog, grace_s=0, name=REBUILD).run():
        yield len(page.unknown)


def _is_source(key: str) -> bool:
    try:
        source_key(key)
    except KeyRefused:
        return False
    return True
