"""Whoever watches a storage is told of its own time alone, and of its own failures."""

import asyncio

import pytest

from storage.blobs import Storage
from storage.blobs.memory import MemoryBlobs
from storage.blobs.watched import WatchedBlobs
from storage.errors import BlobChanged
from tests.support.watches import RecordedWatch

KEY = "uploads/cat.jpg"


@pytest.fixture
def watch() -> RecordedWatch:
    return RecordedWatch()


@pytest.fixture
async def blobs(watch: RecordedWatch) -> Storage:
    """A storage with one blob, whose bytes have to be fetched, as from a bucket."""
    watched = WatchedBlobs(MemoryBlobs(), watch)
    await watched.store([(KEY, b"picture")])
    watch.operations.clear()
    return watched


async def test_bytes_that_are_fetched_later_are_told_of_apart_from_the_opening(
    blobs: Storage, watch: RecordedWatch
) -> None:
    async with blobs.open(KEY, fetched=False) as source:
        assert watch.operations == {"open": 1}
        await source.fetch()

    assert watch.operations == {"open": 1, "read": 1}


async def test_a_blob_that_is_replaced_meanwhile_is_no_failure_of_the_storage(
    blobs: Storage, watch: RecordedWatch
) -> None:
    async with blobs.open(KEY, fetched=False) as source:
        await blobs.store([(KEY, b"another")])
        with pytest.raises(BlobChanged):
            await source.fetch()

    assert watch.failures == {}


async def test_what_is_done_with_a_part_is_no_time_of_the_storage(
    blobs: Storage, watch: RecordedWatch
) -> None:
    async for _ in blobs.read(KEY):
        await asyncio.sleep(0.2)  # how long that takes is what it is about

    assert watch.seconds["read"] < 0.2
