"""Reading below the root: files are opened, or only stat is called; nothing is changed."""

import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import groupby

from storage import keys
from storage.blobs import BlobInfo, BlobPart, Existence
from storage.blobs.folders import folder_names, walk
from storage.blobs.open_folders import OpenFolders
from storage.blobs.root import Root, spelled
from storage.errors import BlobChanged, BlobForbidden, BlobRefused, StorageError, user


def open_file(folders: OpenFolders, key: str) -> tuple[int, os.stat_result]:
    """The regular file under `key`, open, and how it is.

    Raises: OSError, BlobForbidden, BlobRefused, BlobsUnavailable.
    """
    *path, name = keys.segments(key)
    # O_NONBLOCK: a pipe under an upload's name must not hang its reader
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with _rights(folders.root, key):
        folder = folders.enter(tuple(path))
        fd = os.open(spelled(folder, name, key), flags, dir_fd=folder)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise BlobRefused(f"{key} is not a regular file")
    return fd, status


def stamp_at(folders: OpenFolders, key: str) -> str:
    """The stamp of the regular file under `key`. Raises: as `open_file`."""
    *path, name = keys.segments(key)
    with _rights(folders.root, key):
        folder = folders.enter(tuple(path))
        status = os.stat(spelled(folder, name, key), dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise BlobRefused(f"{key} is not a regular file")
    return stamp_of(status)


@contextmanager
def _rights(root: Root, key: str) -> Iterator[None]:
    """Raise that a right is missing as what it is, of this file alone."""
    try:
        yield
    except PermissionError as error:
        reason = f"{root.path / key} cannot be read by the user {user()}: {error.strerror}"
        raise BlobForbidden(reason) from error


def read_part(key: str, root: Root, start: int, most: int, stamp: str) -> BlobPart:
    """Bytes of the file under `key`, as `ReadPart` says. Raises: as `open_file`, BlobChanged."""
    with closing(OpenFolders(root)) as folders:
        fd, status = open_file(folders, key)
    try:
        found = stamp_of(status)
        if stamp not in ("", found):
            raise BlobChanged(f"{key} was replaced meanwhile")
        begin = start if start >= 0 else max(0, status.st_size + start)
        return BlobPart(os.pread(fd, most, begin), begin, status.st_size, found)
    finally:
        os.close(fd)


def stat_files(root: Root, wanted: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
    """What lies under each of the `wanted` keys; keys of one folder in a row open it once."""
    for key in wanted:
        keys.segments(key)
    found: dict[str, BlobInfo | Existence] = {}
    for path, group in groupby(wanted, key=lambda key: key.rpartition("/")[0]):
        found |= _stat_in(root, path, list(group))
    return found


def _stat_in(root: Root, path: str, wanted: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
    try:
        with root.folder(path.split("/") if path else []) as folder:
            return {key: _seen(folder, key) for key in wanted}
    except FileNotFoundError:
        return dict.fromkeys(wanted, Existence.MISSING)
    except (OSError, StorageError):
        return dict.fromkeys(wanted, Existence.UNKNOWN)


def list_files(
    root: Root, prefix: str, after: str, on_misnamed: Callable[[str], object]
) -> Generator[Sequence[str], None, None]:
    """The keys below `prefix`, as `List` says, some of one folder at a time."""
    with suppress(FileNotFoundError), root.folder(keys.segments(prefix)) as folder:
        yield from walk(folder, prefix, after, on_misnamed)


def list_folders(prefix: str, root: Root, start: str) -> Sequence[str]:
    """The names of the folders below `prefix`, as `ListFolders` says."""
    found: Sequence[str] = []
    with suppress(FileNotFoundError), root.folder(keys.segments(prefix)) as folder:
        found = folder_names(folder, start)
    return keys.blob_folders(prefix, found)


def _seen(folder: int, key: str) -> BlobInfo | Existence:
    """What lies under the last name of `key` in its open folder; never what a link there points to."""
    try:
        name = spelled(folder, key.rpartition("/")[2], key)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return Existence.MISSING
    except OSError:
        return Existence.UNKNOWN
    return info_of(key, status) if stat.S_ISREG(status.st_mode) else Existence.UNKNOWN


def info_of(key: str, status: os.stat_result) -> BlobInfo:
    """What `status` says of the blob under `key`."""
    changed_at = max(status.st_mtime, status.st_ctime)  # a rename and `cp -p` keep an old mtime
    return BlobInfo(key, status.st_size, changed_at, f"{status.st_dev}:{status.st_ino}", status.st_mtime_ns)


def stamp_of(status: os.stat_result) -> str:
    """A text that differs after every change of the file."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
