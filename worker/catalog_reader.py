"""The quick reads of the catalog that the settings name, and a line in the log when their replica is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from storage.catalog.reading import Reader, open_reader
from storage.errors import CatalogUnavailable
from worker.settings import Settings

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_catalog_reader(settings: Settings) -> AsyncIterator[Reader]:
    """A reader of the catalog, or of its replica while that answers.

    Raises: NoCatalog, CatalogUnavailable, CatalogTooNew, CatalogTooOld, CatalogObsolete, CatalogMoved.
    """
    async with open_reader(
        settings.catalog, read_address=settings.catalog_read, on_replica=_report
    ) as reader:
        yield reader


def _report(name: str, error: CatalogUnavailable | None) -> None:
    if error is None:
        log.info("catalog_replica_back", replica=name)
    else:
        log.warning("catalog_replica_away", replica=name, reason=str(error), read="the catalog itself")
