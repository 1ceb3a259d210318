"""Folders that are opened once for a piece of work on many files, and new ones that are flushed together."""

import os
from collections.abc import Iterable

from storage.blobs.root import Root
from storage.blobs.syscalls import sync_folder

FolderPath = tuple[str, ...]
"""The names of the folders that lead to one, from the root."""


class OpenFolders:
    """Folders of a root; `close` them. A root that was exchanged is noticed once, at the beginning.

    What is made here is to be durable before a file is put into it: `sync_new` sees to it.

    Raises: RootMismatch, BlobsUnavailable.
    """

    def __init__(self, root: Root) -> None:
        root.check_place()
        self.root = root
        self._opened: dict[FolderPath, int] = {}
        self._unsynced: dict[int, None] = {}  # folders with new ones in them

    def close(self) -> None:
        for fd in {*self._opened.values(), *self._unsynced} - {self.root.fd}:
            os.close(fd)

    def enter(self, path: FolderPath, *, create: bool = False) -> int:
        """The folder under these names, open until the end. Raises: OSError, BlobsUnavailable."""
        fd = self._opened.get(path)
        if fd is None:
            fd = self._opened[path] = self._open(path, create=create)
        return fd

    def sync_new(self, durable: int | None = None) -> None:
        """Make the names of new folders durable. Raises: OSError.

        On the device `durable`, all is so already.
        """
        _sync(self._unsynced, durable)

    def sync(self, paths: Iterable[FolderPath], durable: int | None = None) -> None:
        """Make the names in folders that were entered durable, as `sync_new` does. Raises: OSError."""
        _sync([self._opened[path] for path in paths], durable)

    def _open(self, path: FolderPath, *, create: bool) -> int:
        if len(path) < 2:
            return self._deeper(self.root.fd, path, create=create) if path else self.root.fd
        # Those on the way are closed again: a key may have hundreds of folders.
        fd = area = self.enter(path[:1], create=create)
        for depth in range(2, len(path) + 1):
            try:
                deeper = self._deeper(fd, path[:depth], create=create)
            finally:
                if fd != area and fd not in self._unsynced:
                    os.close(fd)
            fd = deeper
        return fd

    def _deeper(self, above: int, path: FolderPath, *, create: bool) -> int:
        return self.root.enter(above, path, create=create, on_made=self._unsynced.setdefault)


def _sync(folders: Iterable[int], durable: int | None) -> None:
    for fd in folders:
        if durable is None or os.fstat(fd).st_dev != durable:
            sync_folder(fd)
