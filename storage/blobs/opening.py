"""Opens the storage that a URL names: the one place that knows which backend a scheme belongs to."""

from contextlib import AbstractAsyncContextManager

from storage.blobs import Storage
from storage.blobs.local import open_local
from storage.blobs.marker import read_marker_at
from storage.paths import folder_of


def open_blobs(url: str, *, create: bool) -> AbstractAsyncContextManager[Storage]:
    """The storage at `url` (`file:PATH`), made first where `create` is true.

    Raises: RootMismatch when it does not exist and may not be made, BlobsUnavailable.
    """
    return open_local(folder_of(url), create=create)


def read_owner(url: str) -> str | None:
    """The ID of the catalog that the storage at `url` belongs to; None where nobody can say."""
    return read_marker_at(folder_of(url))
