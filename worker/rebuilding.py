"""Rebuilding: a new catalog takes over a storage root, and queues its originals."""

from collections.abc import AsyncIterator

from storage.blobs import Storage
from storage.catalog.opening import Catalog
from worker.adoption import Adoption, listing_of
from worker.publisher import go_on_above
from worker.queue import Queue

REBUILD = "rebuild"  # the listing of originals that gives a root to a new catalog


async def is_interrupted(catalog: Catalog) -> bool:
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
    async for page in Adoption(blobs, catalog, queue, grace_s=0, name=REBUILD).run():
        yield len(page.unknown)
