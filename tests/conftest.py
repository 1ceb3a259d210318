"""What tests of every kind share: a fresh catalog and a fresh storage root."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.blobs.local import LocalBlobs, open_local
from storage.catalog import Catalog, open_catalog


@pytest.fixture
def catalog_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'catalog.db'}"


@pytest.fixture
async def catalog(catalog_url: str) -> AsyncIterator[Catalog]:
    """A catalog that nobody has used."""
    async with open_catalog(catalog_url) as fresh:
        yield fresh


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of `local_blobs`."""
    return tmp_path / "media"


@pytest.fixture
async def local_blobs(root: Path) -> AsyncIterator[LocalBlobs]:
    """Blobs as files, none yet."""
    async with open_local(root, create=True) as blobs:
        yield blobs
