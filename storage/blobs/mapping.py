"""What an errno means: the one place where errors of the system become this layer's."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import NO_ROOM, BlobNotFound, BlobRefused, BlobsUnavailable, StorageFull, user
from storage.paths import barrier

NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NOT_OFFERED = frozenset(
    {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EMLINK, errno.ENOTTY}
)
"""What file systems answer to a call that they do not know."""
NOT_A_FILE = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMLINK})


@contextmanager
def mapped(subject: object) -> Iterator[None]:
    """Raise an OSError about `subject` (a key or a path) as an error of this layer."""
    try:
        yield
    except FileNotFoundError as error:
        raise BlobNotFound(f"there is no {subject}") from error
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise BlobRefused(f"{subject} is not a regular file below the root") from error
        raise unavailable(subject, error) from error


def unavailable(subject: object, error: OSError) -> BlobsUnavailable:
    """The outage that `error` is."""
    if error.errno in NO_ROOM:
        return StorageFull(f"no room left on the storage: {error.strerror}")
    if isinstance(subject, Path) and error.errno == errno.EACCES and (shut := barrier(subject)):
        return BlobsUnavailable(f"the storage cannot be reached: {shut}")
    if error.errno in NOT_ALLOWED:
        return BlobsUnavailable(f"the storage refused {subject} to the user {user()}: {error.strerror}")
    # Without the name that the error brings: it differs at each try, which would log each as a new outage.
    return BlobsUnavailable(f"the storage failed at {subject}: {error.strerror or error}")
