"""A copy becomes a catalog."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from storage.backups.folder import BackupCopy
from storage.backups.restoring import CatalogRestore, Replacement
from storage.catalog.address import Address
from storage.catalog.opening import Catalog

MOMENT = "20261129T120000"


@asynccontextmanager
async def restoring(
    url: str, copy: BackupCopy, moment: str = MOMENT, replaced: Collection[str] = ()
) -> AsyncIterator[tuple[Replacement, Catalog]]:
    """The copy is the catalog at that URL once the body, which has the candidate, is over."""
    async with (
        CatalogRestore(Address(url), copy).alone() as replacement,
        replacement.run(moment, 100, replaced=replaced) as candidate,
    ):
        yield replacement, candidate
