"""Receiving an original: where it is stored, what is announced, what is refused."""

import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipelines.errors import PictureRefused
from storage.blobs.local import LocalBlobs
from storage.blobs.memory import MemoryBlobs
from storage.catalog.records import StreamId, UploadRequested
from worker.events import parse_event
from worker.queue import Queue
from worker.receiving import Read, Receiver
from worker.upload_ids import default_id

CONTENT = b"a picture"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def reading(content: bytes) -> Read:
    async def chunks() -> AsyncIterator[bytes]:
        yield content[:4]
        yield content[4:]

    return chunks


@pytest.fixture
def receiver(queue: Queue, local_blobs: LocalBlobs) -> Receiver:
    return Receiver(local_blobs, queue.stream, len(CONTENT), "app")


@pytest.mark.parametrize(
    ("name", "extension"), [("Cat.JPG", ".jpg"), ("cat", ""), ("cat.tar.gz", ".gz"), ("cat.../../x y", "")]
)
async def test_a_content_is_stored_under_its_hash_with_the_extension_of_its_name(
    receiver: Receiver, root: Path, name: str, extension: str
) -> None:
    received = await receiver.store(reading(CONTENT), name)

    assert received.source == f"uploads/app/{SHA256[:2]}/{SHA256}{extension}"
    assert received.id == default_id(received.source)
    assert (root / received.source).read_bytes() == CONTENT


async def test_the_same_content_is_one_original_and_is_announced_as_often_as_it_comes(
    receiver: Receiver, queue: Queue, root: Path
) -> None:
    both = [await receiver.store(reading(CONTENT), name) for name in ("a.jpg", "b.jpg")]
    for received in both:
        await receiver.announce(received, "avatar")

    [source] = {received.source for received in both}
    events = [json.loads(fields[b"event"]) for _, fields in await queue.redis.xrange("media:uploads")]
    names = [event.pop("metadata") for event in events]
    assert events == [{"source": source, "recipe": "avatar"}] * 2
    assert names == [{"filename": "a.jpg"}, {"filename": "b.jpg"}]
    assert [path.name for path in (root / "uploads").rglob("*.jpg")] == [f"{SHA256}.jpg"]


@pytest.mark.parametrize("torn", [b"", b"a pic", b"a\0picture", b"a picture\0"])
async def test_a_torn_original_is_stored_again_by_its_content_and_a_whole_one_is_left(
    receiver: Receiver, root: Path, torn: bytes
) -> None:
    path = root / (await receiver.store(reading(CONTENT), "cat.jpg")).source
    written = path.stat()
    await receiver.store(reading(CONTENT), "cat.jpg")
    left = path.stat()
    path.write_bytes(torn)
    await receiver.store(reading(CONTENT), "cat.jpg")

    assert (left.st_ino, left.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert path.read_bytes() == CONTENT


async def test_an_original_in_a_bucket_is_torn_if_its_size_says_so_and_is_not_fetched_to_see(
    queue: Queue,
) -> None:
    blobs = MemoryBlobs()
    receiver = Receiver(blobs, queue.stream, len(CONTENT), "app")
    source = (await receiver.store(reading(CONTENT), "cat.jpg")).source
    found = []
    for torn in (b"a pic", b"a\0picture"):
        await blobs.store([(source, torn)])
        await receiver.store(reading(CONTENT), "cat.jpg")
        found.append(await blobs.get(source))

    assert found == [CONTENT, b"a\0picture"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("K\u00e4tzchen \U0001f408.jpg".encode(), "K\u00e4tzchen \U0001f408.jpg"),
        (b"latin-\xe9\xff.jpg", r"latin-\xe9\xff.jpg"),
        (b"\x01" * 255, "\x01" * 255),  # six bytes each as JSON
        (b"\xff" * 255, r"\xff" * 63 + r"\xf"),
    ],
)
async def test_a_file_keeps_its_name_in_the_metadata_of_its_upload_whatever_bytes_it_has(
    receiver: Receiver, queue: Queue, name: bytes, expected: str
) -> None:
    await receiver.announce(await receiver.store(reading(CONTENT), os.fsdecode(name)), "default")

    [(_, fields)] = await queue.redis.xrange("media:uploads")
    event = parse_event(fields[b"event"], StreamId(1), frozenset({"default"}))
    assert isinstance(event, UploadRequested)
    assert event.metadata == {"filename": expected}


async def test_a_content_over_the_limit_is_refused_and_not_stored(receiver: Receiver, root: Path) -> None:
    with pytest.raises(PictureRefused, match="more than 9 bytes") as refused:
        await receiver.store(reading(CONTENT + b"!"), "cat.jpg")

    assert refused.value.code == "source_too_large"
    assert list((root / "uploads").rglob("*.jpg")) == []
