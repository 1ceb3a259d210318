"""What lies in a storage, for assertions."""

from collections.abc import Callable

from storage.blobs import BlobInfo, Existence, List, Stat


async def listed(
    blobs: List, prefix: str, after: str = "", *, passed_over: Callable[[str], object] = lambda _: None
) -> list[str]:
    """All keys below `prefix`, after the key `after`."""
    return [key async for page in blobs.list(prefix, after, passed_over=passed_over) for key in page]


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
