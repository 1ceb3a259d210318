"""What can go wrong with bytes and rows: the one tree of storage errors."""

import errno
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StorageError(Exception):
    """Anything that bytes or rows answered instead of doing what was asked."""


class KeyRefused(StorageError):
    """The key is not one that this storage composes or accepts; the message says why."""


class BlobNotFound(StorageError):
    """There is surely nothing under this key."""


class BlobChanged(StorageError):
    """What lies under this key was replaced since it was opened."""


class BlobRefused(StorageError):
    """What lies under this key is not a regular file inside the root (a link, a pipe, a folder)."""


class BlobsUnavailable(StorageError):
    """The storage did not answer as a storage does; the same call may work later."""


class BlobsAway(BlobsUnavailable):
    """No server answers where the storage should be, or one that is not ready; it may come (back)."""


class BlobsUnfit(BlobsUnavailable):
    """The storage cannot be used with these settings; the message says which are wrong."""


class VolumeMissing(BlobsUnavailable):
    """A folder of the root is a volume of its own that is not there; it may come back."""


class StorageFull(BlobsUnavailable):
    """There is no room left for what was to be written."""


class BlobForbidden(BlobsUnavailable):
    """This user may not read the file under this key; everything around it may be well."""


class BlobPinned(BlobsUnavailable):
    """The file under this key cannot be taken away from where it lies: its folder cannot be written."""


class TargetUnavailable(BlobsUnavailable):
    """A file cannot be moved, because nothing can be written where it is to go; it lies where it lay."""


class FileSystemUnfit(StorageError):
    """A file system cannot do what is needed on it; the message names it, and says what to do."""


class BackendMissing(StorageError):
    """A package that a URL of the settings needs is not installed; the message names it."""


def lacking(extra: str) -> str:
    """What to do where the packages of an extra of this program are not installed."""
    return (
        f"needs the extra {extra}, which is not installed: in a clone, uv tool install '.[{extra}]', or "
        f"pip install '.[{extra}]' into this environment; name all extras that are used at once"
    )


class RootMismatch(StorageError):
    """The storage root is not the one that this catalog describes."""


class CatalogUnavailable(StorageError):
    """The catalog did not answer, or stayed locked too long; the same call may work later."""


class CatalogAway(CatalogUnavailable):
    """No server answers where the catalog should be, or one that is not ready; it may come (back)."""


class CatalogDamaged(CatalogUnavailable):
    """A part of the catalog's file cannot be read or written any more; the rest of it may well be."""


class CatalogConflict(CatalogUnavailable):
    """The database undid a transaction that got in another's way; nothing of it was written."""


class CatalogUnfit(CatalogUnavailable):
    """The catalog's database is not one for a catalog, or a setting is wrong; the message says what to do."""


class CatalogTooNew(StorageError):
    """The catalog was written by a newer version of this program."""


class CatalogTooOld(StorageError):
    """The catalog's schema is older than this program's, and only a worker changes it."""


class CatalogObsolete(StorageError):
    """The catalog was written by a development version, and no migration starts from its schema."""


class CatalogMoved(StorageError):
    """The catalog has moved to another database, or is about to."""


class CopyRefused(StorageError):
    """A backup cannot be made where it is to be, or not be used; the message says what to do."""


class CopyBusy(CopyRefused):
    """Another backup is made in the same folder just now."""


class CopyDamaged(CopyRefused):
    """A backup is not what it was when it was made."""


class NoCatalog(StorageError):
    """There is no catalog yet where one was expected."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no catalog at {name} yet; a worker makes it when it first starts, and `media rebuild` "
            "where the one of an existing storage folder was lost."
        )


def user() -> str:
    """Who this process is, for messages about rights: name and number."""
    return name_of(os.geteuid())


def name_of(uid: int) -> str:
    """A user for messages: name and number."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def unwritable(number: int) -> BlobsUnavailable:
    """The error that it is when a decoder fails to read or draw with the errno `number`."""
    if number in NO_ROOM:
        return StorageFull(f"no room left on the storage: {os.strerror(number)}")
    return BlobsUnavailable(f"an original could not be read, or nothing be drawn: {os.strerror(number)}")


@contextmanager
def writes_copies(folder: Path) -> Iterator[None]:
    """Errors of the body that the system raised, in words that say what to do. Raises: CopyRefused."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise CopyRefused(f"there is no room for a copy in {folder}: make room") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise CopyRefused(
                f"{folder} cannot be written ({error.strerror}): let the user {user()} write it"
            ) from error
        raise CopyRefused(f"no copy can be made in {folder}: {error.strerror or error}") from error
