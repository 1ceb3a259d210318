"""A file of one root under the same key in another one, by a hard link: no bytes are copied."""

import os
import stat
from contextlib import suppress
from uuid import uuid4

from storage import keys
from storage.blobs.root import Root, spelled
from storage.blobs.syscalls import sync_folder

_ASIDE = f"{keys.HIDDEN}link-"


def remove_unfinished(target: Root) -> None:
    """Remove what processes have left in `target` that died while they linked; none may be at it."""
    for name in os.listdir(target.fd):
        if name.startswith(_ASIDE):
            os.unlink(name, dir_fd=target.fd)


def link_file(source: Root, target: Root, key: str, to: str) -> int | None:
    """Let `target` have the file of `source` under `key` as `to`; what is there is replaced at once.

    Returns its bytes; None where it cannot be linked (another file system, another user's file).

    Raises: FileNotFoundError, BlobsUnavailable, RootMismatch.
    """
    *folders, name = keys.segments(key)
    *to_folders, to_name = keys.segments(to)
    with source.folder(folders) as there, target.folder(to_folders, create=True) as here:
        real = spelled(there, name, key)
        status = os.stat(real, dir_fd=there, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            return None
        aside = f"{_ASIDE}{uuid4().hex}"
        try:
            os.link(real, aside, src_dir_fd=there, dst_dir_fd=target.fd, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:
            return None
        os.rename(aside, to_name, src_dir_fd=target.fd, dst_dir_fd=here)
        with suppress(FileNotFoundError):  # a rename does nothing where both are one file already
            os.unlink(aside, dir_fd=target.fd)
        sync_folder(here)
    return status.st_size
