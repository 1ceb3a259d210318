"""A bucket that is copied while its answers are wrong: what the catalog names is in the copy all the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from scripts.s3_server import S3Server
from storage.blobs.copying import BlobCopy
from storage.blobs.memory import MemoryBlobs
from storage.blobs.opening import open_blobs
from tests.support.blobs import listed
from tests.support.s3 import new_place
from tests.support.s3_proxy import Fault, s3_proxy

KEYS = [f"variants/ab/cd/{number}.jpg" for number in range(5)]


@dataclass(frozen=True)
class KnownKeys:
    """A catalog with a row for each of `known`."""

    known: Sequence[str]

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        return [key for key in self.known if key.startswith(area) and after < key <= (upto or key)][:2]


@pytest.mark.parametrize("fault", ["html", "error in 200", "short list"])
async def test_a_listing_that_lies_each_time_leaves_nothing_of_the_catalog_out(
    seaweedfs: S3Server, fault: Fault
) -> None:
    copy = MemoryBlobs()
    with s3_proxy(seaweedfs.endpoint) as proxy:
        place = replace(new_place(seaweedfs), endpoint=proxy.endpoint)
        async with open_blobs(place.url, create=True) as bucket:
            await bucket.bind("ours", catalog_is_new=True)
            await bucket.store([(key, key.encode()) for key in KEYS])
            proxy.strike(fault, of="GET .*list-type.*variants")
            steps = [step async for step in BlobCopy(bucket, copy, KnownKeys(KEYS)).copy()]

    assert sum(step.copied for step in steps) == len(KEYS)
    assert await listed(copy, "variants") == KEYS


async def test_a_listing_that_is_whole_is_not_asked_about_twice() -> None:
    source, copy = MemoryBlobs(), MemoryBlobs()
    await source.store([(key, b"x") for key in KEYS])

    steps = [step async for step in BlobCopy(source, copy, KnownKeys([*KEYS, "variants/lost.jpg"])).copy()]

    assert [(step.last, step.copied, step.same) for step in steps] == [
        (KEYS[-1], 5, 0),
        ("variants/lost.jpg", 0, 0),
    ]
