"""Snapshots: the first totals of each day are saved."""

from pipelines.stats.growth import DAY_MS
from storage.blobs import Room
from storage.catalog.opening import Catalog


async def keep_snapshot(catalog: Catalog, blobs: Room) -> bool:
    """Keep the totals of now as today's (UTC), unless there are some; returns whether it did.

    Raises: StorageError.
    """
    space = await blobs.space()
    today = catalog.database.now_ms() // DAY_MS
    return await catalog.reports.snapshot(today, space.free_bytes if space else None)
