"""What the tests of uploads and batches share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipelines.sandbox import Sandbox, open_sandbox
from storage.blobs.local import LocalBlobs
from storage.catalog import Catalog
from tests.support.batches import Uploads
from tests.support.sandboxes import ROGUE, allowance, children
from tests.support.sweeps import Clock


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with one real decoder."""
    async with open_sandbox(allowance()) as real:
        yield real
    assert children() == {}


@pytest.fixture
async def rogue() -> AsyncIterator[Sandbox]:
    """A sandbox whose one decoder does what a picture tells it to; hangs are cut off after 0.6 s."""
    async with open_sandbox(allowance(seconds=0.2), (*ROGUE, "starts")) as sandbox:
        yield sandbox
    assert children() == {}


@pytest.fixture
def uploads(catalog: Catalog, local_blobs: LocalBlobs, root: Path) -> Uploads:
    return Uploads(catalog, local_blobs, root)


@pytest.fixture
def clock() -> Clock:
    """The time that sweepers read."""
    return Clock()
