"""The stores: the catalog and the storage root, opened together and checked to belong together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from storage import keys
from storage.blobs import Storage
from storage.blobs.opening import has_owner, open_watched
from storage.blobs.seal import bind_although_sealed
from storage.catalog.database import is_catalog
from storage.catalog.opening import Catalog, open_catalog
from storage.errors import RootMismatch
from storage.threads import in_thread
from storage.watch import NOBODY, CatalogWatch, StorageWatch
from worker.settings import Settings

NO_CATALOG = (
    "Correct MEDIA_CATALOG_URL, or move the catalog there from where it was (media migrate-catalog), or "
    "restore it; only if it is lost: media rebuild."
)


@dataclass(frozen=True)
class Watches:
    """Who is told how long the stores take."""

    catalog: CatalogWatch = NOBODY
    storage: StorageWatch = NOBODY


NOT_WATCHED = Watches()


@dataclass(frozen=True)
class Stores:
    """Bytes and rows that belong together."""

    catalog: Catalog
    blobs: Storage


@asynccontextmanager
async def open_stores(
    settings: Settings,
    *,
    create: bool = True,
    migrate: bool = False,
    moving_to: str | None = None,
    watches: Watches = NOT_WATCHED,
) -> AsyncIterator[Stores]:
    """The catalog and the storage root that the settings name; they are checked to belong together.

    The storage may be sealed because it moves to `moving_to`; to all others it is refused then.

    Raises: NoCatalog unless it may be made, RootMismatch, CatalogTooNew, CatalogObsolete, CatalogTooOld
    unless it may be migrated, CatalogUnavailable, BlobsUnavailable.
    """
    if create:
        await _check_unused(settings)
    async with (
        open_catalog(
            settings.catalog,
            create=create,
            migrate=migrate,
            uploads_per_job=settings.uploads_per_job,
            domains=settings.domains.all,
            watch=watches.catalog,
        ) as catalog,
        open_watched(settings.storage_url, watches.storage, create=catalog.is_new) as blobs,
    ):
        if moving_to is None:
            await blobs.bind(catalog.id, catalog_is_new=catalog.is_new)
        else:
            await bind_although_sealed(blobs, catalog.id, moving_to)
        if catalog.is_new:
            await catalog.database.mark_bound()
        yield Stores(catalog, blobs)


async def _check_unused(settings: Settings) -> None:
    """Raises: RootMismatch where a catalog that does not exist would be made for a root that has another.

    Also CatalogUnavailable or BlobsUnavailable where nobody can say what is there.
    """
    if await is_catalog(settings.catalog):
        return
    bound = await in_thread(has_owner, settings.storage_url)
    # Otherwise another worker, which starts too, has just made both.
    if bound and not await is_catalog(settings.catalog):
        name = settings.catalog_name
        raise RootMismatch(
            f"There is no catalog at {name}, but {settings.storage} has a {keys.MARKER} already: "
            f"{NO_CATALOG[0].lower()}{NO_CATALOG[1:]}"
        )
