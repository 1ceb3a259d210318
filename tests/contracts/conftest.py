"""A catalog on each database that can hold one, opened by two who know nothing of each other."""

from collections.abc import AsyncIterator

import pytest

from storage.catalog.opening import Catalog, open_catalog


@pytest.fixture(params=["sqlite", "postgres"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def another(catalog: Catalog, catalog_url: str) -> AsyncIterator[Catalog]:
    """The same catalog, opened by another worker."""
    async with open_catalog(catalog_url) as opened:
        yield opened
