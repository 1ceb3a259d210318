"""The catalog, as `media doctor` finds it, and the root that belongs to it."""

from collections.abc import AsyncIterator

from scripts.doctor.files import look_at_room, look_at_root, to_be_made
from storage.catalog import open_catalog
from storage.errors import StorageError
from worker.health import Finding
from worker.settings import Settings


async def look_at_catalog(settings: Settings) -> AsyncIterator[Finding]:
    """The catalog, then the storage root."""
    path = settings.catalog_path
    try:
        if not path.exists():
            yield to_be_made("Catalog", path, "MEDIA_CATALOG_URL")
            for finding in await look_at_root(settings, None):
                yield finding
            return
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            uploads = sum((await catalog.reports.states()).values())
            yield Finding("Catalog", "ok", f"{path}, {uploads} uploads")
            for finding in await look_at_root(settings, catalog):
                yield finding
            swept = await catalog.sweeps.last()
            if swept is not None and swept.stopped:
                advice = f"Look at it; where it is right after all: media sweep --force {swept.plan}"
                yield Finding("Sweep", "warning", f"{swept.stops} stopped: {swept.stopped}", advice)
    except (StorageError, OSError) as error:
        advice = "See MEDIA_CATALOG_URL, and restore the file if it is damaged."
        yield Finding("Catalog", "error", str(error), advice)
        for finding in await look_at_room(settings):
            yield finding
