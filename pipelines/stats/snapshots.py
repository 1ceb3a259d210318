"""Snapshots: the first totals of each day are saved."""

from pipelines.stats.growth import DAY_MS
from storage.blobs import Room
from storage.catalog.clock import now_ms
from storage.catalog.reports import Reports


async def keep_snapshot(reports: Reports, blobs: Room) -> bool:
    """Keep the totals of now as today's (UTC), unless there are some; returns whether it did.

    Raises: StorageError.
    """
    space = await blobs.space()
    return await reports.snapshot(now_ms() // DAY_MS, space.free_bytes if space else None)
