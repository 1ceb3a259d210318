"""What the tests of uploads and batches share."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipelines.sandbox import Sandbox
from scripts.s3_server import S3Server
from storage.blobs import Storage
from storage.blobs.memory import MemoryBlobs
from storage.blobs.opening import open_blobs
from storage.catalog.opening import Catalog
from tests.support.batches import Uploads
from tests.support.s3 import new_place
from tests.support.sandboxes import ROGUE, LentServers, allowance, children
from tests.support.sweeps import Clock


@pytest.fixture(scope="session")
def lent_servers() -> Iterator[LentServers]:
    lent = LentServers()
    yield lent
    asyncio.run(lent.close())


@pytest.fixture
async def sandbox(lent_servers: LentServers) -> AsyncIterator[Sandbox]:
    """A sandbox with one real decoder."""
    async with lent_servers.open_sandbox(allowance()) as real:
        yield real
    assert children() == {}


@pytest.fixture
async def rogue(lent_servers: LentServers) -> AsyncIterator[Sandbox]:
    """A sandbox whose one decoder does what the picture orders; hangs are cut off after 0.6 s."""
    async with lent_servers.open_sandbox(allowance(seconds=0.2), (*ROGUE, "starts")) as sandbox:
        yield sandbox
    assert children() == {}


@pytest.fixture
def blobs(request: pytest.FixtureRequest) -> Storage:
    """In memory, with the manners of an object store; or `on_files`, `on_both`."""
    kind = getattr(request, "param", "memory")
    if kind == "memory":
        return MemoryBlobs()
    if kind == "bucket":
        bucket: Storage = request.getfixturevalue("bucket")
        return bucket
    local: Storage = request.getfixturevalue("local_blobs")
    return local


@pytest.fixture
async def bucket(seaweedfs: S3Server) -> AsyncIterator[Storage]:
    """In a bucket of a real server."""
    async with open_blobs(new_place(seaweedfs).url, create=True) as blobs:
        await blobs.bind("catalog", catalog_is_new=True)
        yield blobs


@pytest.fixture
def uploads(catalog: Catalog, blobs: Storage, root: Path) -> Uploads:
    return Uploads(catalog, blobs, root)


@pytest.fixture
def clock() -> Clock:
    """The time that sweepers read."""
    return Clock()
