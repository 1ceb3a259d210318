"""Opens the storage that a URL names: the one place that knows which backend a scheme belongs to."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from storage import keys
from storage.blobs import SignLinks, Storage
from storage.blobs.mapping import mapped
from storage.blobs.marker import owner_in, read_marker_at
from storage.blobs.s3_place import S3Place, is_s3, parse_s3
from storage.blobs.watched import WatchedBlobs
from storage.errors import BackendMissing, BlobNotFound, StorageError, lacking
from storage.paths import folder_of, is_there
from storage.watch import NOBODY, StorageWatch

_MARKER_S = 5.0  # at most, until a bucket has said whose it is


def open_blobs(url: str, *, create: bool) -> AbstractAsyncContextManager[Storage]:
    """The storage at `url` (`file:PATH`, `s3://BUCKET/PREFIX`); a folder is made where `create` is true.

    Raises: RootMismatch when it does not exist and may not be made, BlobsUnavailable, BackendMissing.
    """
    if not is_s3(url):
        from storage.blobs.local import open_local  # whoever only reads settings opens nothing

        return open_local(folder_of(url), create=create)
    check_backend(url)
    from storage.blobs.s3 import open_s3  # only where it is asked for: it is an extra, and takes memory

    return open_s3(parse_s3(url))


@asynccontextmanager
async def open_watched(url: str, watch: StorageWatch, *, create: bool) -> AsyncIterator[Storage]:
    """The same, and `watch` is told how long each verb takes, and which fail."""
    async with open_blobs(url, create=create) as blobs:
        yield blobs if watch is NOBODY else WatchedBlobs(blobs, watch)


def open_target(url: str, *, create: bool) -> AbstractAsyncContextManager[Storage]:
    """The same, but a folder that does not exist and may not be made counts as an empty storage."""
    if is_s3(url) or create or is_there(folder_of(url)):
        return open_blobs(url, create=create)
    from storage.blobs.memory import MemoryBlobs

    return nullcontext(MemoryBlobs())


def links_to(url: str) -> SignLinks | None:
    """What signs links to the blobs at `url`; None where they are files, to which there are none.

    Raises: BlobsUnfit, BackendMissing.
    """
    if not is_s3(url):
        return None
    check_backend(url)
    from storage.blobs.s3_links import S3Links

    return S3Links(parse_s3(url))


def check_backend(url: str) -> None:
    """Raises: BackendMissing where the package that `url` needs is not installed."""
    if is_s3(url) and importlib.util.find_spec("obstore") is None:
        raise BackendMissing(f"S3 {lacking('s3')}")


def shown(url: str) -> str:
    """The storage at `url` for people."""
    return str(parse_s3(url)) if is_s3(url) else str(folder_of(url))


def read_owner(url: str) -> str | None:
    """The ID of the catalog that the storage at `url` belongs to; None where nobody can say."""
    if not is_s3(url):
        return read_marker_at(folder_of(url))
    try:
        return owner_in(_read_marker(parse_s3(url)))
    except StorageError:
        return None


def has_owner(url: str) -> bool:
    """Whether the storage at `url` belongs to a catalog. Raises: BlobsUnavailable, RootMismatch."""
    if not is_s3(url):
        root = folder_of(url)
        with mapped(root / keys.MARKER):
            return is_there(root / keys.MARKER)
    try:
        _read_marker(parse_s3(url))
    except BlobNotFound:
        return False
    return True


def _read_marker(place: S3Place) -> bytes:
    check_backend(place.url)
    from storage.blobs.bucket import read_now

    return read_now(place, keys.MARKER, _MARKER_S)
