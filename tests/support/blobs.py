"""Which storage a test runs on, and what lies there."""

from collections.abc import AsyncIterator, Callable

import pytest

from storage.blobs import BlobInfo, Existence, List, Stat

on_files = pytest.mark.parametrize("blobs", ["files"], indirect=True)
"""For a test of the fixture `blobs` that needs a file system."""
on_both = pytest.mark.parametrize("blobs", ["memory", "files"], indirect=True)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """What a sender sends, part by part."""
    for part in parts:
        yield part


async def listed(
    blobs: List, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
) -> list[str]:
    """All keys below `prefix`, after the key `after`."""
    return [key async for page in blobs.list(prefix, after, on_misnamed=on_misnamed) for key in page]


async def stat_of(blobs: Stat, key: str) -> BlobInfo | Existence:
    """How the blob under one key is."""
    return (await blobs.stat([key]))[key]


async def is_there(blobs: Stat, key: str) -> bool:
    """Whether there surely is a blob under `key`."""
    return isinstance(await stat_of(blobs, key), BlobInfo)


async def info_of(blobs: Stat, key: str) -> BlobInfo:
    """Size and age of a blob that is there."""
    found = await stat_of(blobs, key)
    assert isinstance(found, BlobInfo)
    return found
