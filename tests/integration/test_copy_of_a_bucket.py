"""A bucket that is copied while its answers are wrong: what the catalog names is in the copy all the same."""

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import boto3
import pytest

from scripts.s3_server import S3Server
from storage.blobs import Storage
from storage.blobs.copying import BlobCopy, check_target
from storage.blobs.memory import MemoryBlobs
from storage.blobs.opening import open_blobs
from storage.blobs.owners import unfinished
from storage.errors import BlobChanged, BlobsUnavailable, KeyRefused, RootMismatch
from tests.support.blobs import chunks, listed
from tests.support.objects import ObjectsInBucket
from tests.support.s3 import new_place
from tests.support.s3_proxy import Fault, S3Proxy, s3_proxy

KEYS = [f"variants/ab/cd/{number}.jpg" for number in range(5)]


@dataclass(frozen=True)
class KnownKeys:
    """A catalog with a row for each of `known`."""

    known: Sequence[str]

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        return [key for key in self.known if key.startswith(area) and after < key <= (upto or key)][:2]


@pytest.mark.parametrize("fault", ["html", "error in 200", "short list", "list with a gap"])
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


LISTINGS = "GET .*list-type"


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def bucket(seaweedfs: S3Server, proxy: S3Proxy) -> AsyncIterator[Storage]:
    """A bucket behind the proxy."""
    async with open_blobs(replace(new_place(seaweedfs), endpoint=proxy.endpoint).url, create=True) as bucket:
        yield bucket


async def test_what_cannot_be_written_is_named_and_the_rest_is_copied(
    bucket: Storage, proxy: S3Proxy
) -> None:
    source = MemoryBlobs()
    await source.store([(key, b"x") for key in KEYS])
    proxy.strike("AccessDenied", of=f"PUT .*{KEYS[2]}")

    [step] = [step async for step in BlobCopy(source, bucket).copy()]

    assert (step.copied, list(step.refused)) == (4, [KEYS[2]])
    assert "AccessDenied" in step.refused[KEYS[2]]


async def test_a_copy_ends_at_an_outage_and_refuses_nothing(bucket: Storage, proxy: S3Proxy) -> None:
    source = MemoryBlobs()
    await source.store([(key, b"x") for key in KEYS])
    proxy.strike("AccessDenied", of="PUT ")

    with pytest.raises(BlobsUnavailable):
        async for _ in BlobCopy(source, bucket).copy():
            pass


async def test_a_large_original_that_is_replaced_while_it_is_read_is_copied_as_it_is_then(
    seaweedfs: S3Server, proxy: S3Proxy
) -> None:
    place, copy, key = replace(new_place(seaweedfs), endpoint=proxy.endpoint), MemoryBlobs(), "uploads/a.mov"
    s3 = boto3.client("s3", endpoint_url=seaweedfs.endpoint)
    write = partial(s3.put_object, Bucket=place.bucket, Key=f"{place.prefix}/{key}")
    write(Body=b"old" * 4_000_000)
    proxy.after(f"GET .*{key}", lambda: write(Body=b"new" * 4_000_000))

    async with open_blobs(place.url, create=True) as bucket:
        [step] = [step async for step in BlobCopy(bucket, copy).copy()]

    assert (step.copied, dict(step.refused)) == (1, {})
    assert await copy.get(key) == b"new" * 4_000_000
    s3.close()


async def test_a_target_that_lists_nothing_is_not_taken_for_an_empty_one(
    bucket: Storage, proxy: S3Proxy
) -> None:
    await bucket.store([(KEYS[0], b"somebody's")])
    proxy.strike("error in 200", of=LISTINGS)

    for asked in (check_target(bucket, "ours", "there"), bucket.bind("ours", catalog_is_new=True)):
        with pytest.raises(BlobsUnavailable, match="does not show what was just written"):
            await asked

    proxy.rest()
    assert await bucket.catalog_id() is None
    with pytest.raises(RootMismatch, match="choose an empty place"):
        await check_target(bucket, "ours", "there")
    await bucket.delete(KEYS[0])
    await check_target(bucket, "ours", "there")


async def test_a_copy_that_lists_nothing_is_not_taken_for_one_without_extras(
    seaweedfs: S3Server, proxy: S3Proxy
) -> None:
    place = new_place(seaweedfs)
    async with open_blobs(place.url, create=True) as earlier:
        await earlier.rebind(unfinished("ours"))
        await earlier.store([("uploads/deleted.jpg", b"x")])
    proxy.strike("error in 200", of=LISTINGS)

    async with open_blobs(replace(place, endpoint=proxy.endpoint).url, create=False) as copy:
        with pytest.raises(BlobsUnavailable, match=r"does not show \.media-root"):
            await listed(copy, "uploads")


async def test_no_part_of_another_original_follows_the_first_part_of_a_large_one(seaweedfs: S3Server) -> None:
    place, key = new_place(seaweedfs), "uploads/a.mov"
    app = ObjectsInBucket(seaweedfs, place)
    app.put(key, b"old" * 4_000_000)
    async with open_blobs(place.url, create=True) as bucket, aclosing(bucket.read(key)) as parts:
        assert (await anext(parts)).startswith(b"old")
        app.put(key, b"new" * 4_000_000)

        with pytest.raises(BlobChanged):
            await anext(parts)


async def test_an_original_whose_key_is_too_long_for_a_bucket_is_named_and_the_rest_is_copied(
    bucket: Storage,
) -> None:
    source = MemoryBlobs()
    long = "/".join(["uploads", *["d" * 200] * 4, "f" * 190])
    await source.store([(key, b"x") for key in (long, "uploads/z.jpg")])

    [step] = [step async for step in BlobCopy(source, bucket).copy()]

    assert (step.copied, list(step.refused)) == (1, [long])
    assert "at most 1024 bytes" in step.refused[long]
    for verb in (bucket.get(long), bucket.put(long, chunks(b"x")), bucket.move("uploads/z.jpg", long)):
        with pytest.raises(KeyRefused):
            await verb


@pytest.mark.parametrize("key", [KEYS[0], "uploads/a.jpeg"])
async def test_what_is_large_says_of_itself_in_the_copy_what_is_small_does(
    seaweedfs: S3Server, key: str
) -> None:
    place, source = new_place(seaweedfs), MemoryBlobs()
    large = b"x" * 9_000_000
    await source.store([(key, large)])

    async with open_blobs(place.url, create=True) as bucket:
        [_] = [step async for step in BlobCopy(source, bucket).copy()]
        await bucket.move(key, "trash/plan/a")
        assert await bucket.get("trash/plan/a") == large
    s3 = boto3.client("s3", endpoint_url=seaweedfs.endpoint)
    head = s3.head_object(Bucket=place.bucket, Key=f"{place.prefix}/trash/plan/a")
    assert head["ContentType"] == "image/jpeg"
    is_variant = key in KEYS
    assert ("immutable" in head.get("CacheControl", "")) is is_variant
    assert head["Metadata"] == ({"sha256": hashlib.sha256(large).hexdigest()} if is_variant else {})
    s3.close()
