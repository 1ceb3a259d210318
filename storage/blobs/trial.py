"""What the file system of the variants can do: the few things that are relied on, each tried once."""

import os
from collections.abc import Sequence
from uuid import uuid4

from storage.blobs.root import Root
from storage.blobs.staging import Staging
from storage.blobs.syscalls import can_rename_aside, grant, sync_folder
from storage.keys import HIDDEN, VARIANTS
from storage.mounts import file_system_of

_READABLE = 0o444

CANNOT_SYNC = (
    "cannot make a new name durable (fsync of a folder): when the power fails, variants that were just "
    "published may be gone, until a sweep has them made again"
)
CANNOT_KEEP_NAMES = (
    "has neither hard links nor a rename that replaces nothing: two workers that start for the first time "
    "at the same moment may both take the folder, and one of them then stops"
)
RENUMBERS = (
    "gives a file another number (inode) when it is renamed: a sweep tells files apart by size and time. "
    "(For mergerfs, see its option inodecalc.)"
)
HIDES = "does not let others read new files: a web server of another user cannot serve them"


def find_lacks(root: Root, staging: Staging) -> Sequence[str]:
    """What the file system of `variants/` lacks, in words, as far as one can do without.

    Raises: OSError, BlobsUnavailable.
    """
    path = root.path / VARIANTS
    name = f"{HIDDEN}{uuid4().hex}"
    [staged] = staging.make(1, VARIANTS)
    try:
        here = staging.folder_of(staged)
        number = os.fstat(staged.fd).st_ino
        grant(staged.fd, 0o644)
        hides = os.fstat(staged.fd).st_mode & _READABLE != _READABLE
        with root.folder([VARIANTS], create=True) as there:
            keeps_names = can_rename_aside(staged.name, name, here, there)
            try:
                renumbers = os.stat(name, dir_fd=there).st_ino != number
                syncs = sync_folder(there)
            finally:
                os.unlink(name, dir_fd=there)
    finally:
        staging.drop([staged])
    lacks = {CANNOT_SYNC: not syncs, CANNOT_KEEP_NAMES: not keeps_names, RENUMBERS: renumbers, HIDES: hides}
    kind = file_system_of(path)
    return [f"the file system of {path} ({kind}) {lack}" for lack, is_so in lacks.items() if is_so]
