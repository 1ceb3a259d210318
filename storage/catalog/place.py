"""Where a catalog can be: SQLite's log needs a disk of this host, with memory that processes share."""

import mmap
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from storage.errors import FileSystemUnfit
from storage.mounts import file_system_of

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs", "ocfs2", "gfs2"}
    | {"davfs", "glusterfs", "sshfs", "s3fs", "rclone", "ceph-fuse", "gcsfuse", "blobfuse2", "juicefs"}
)
_REMEDY = "Put the catalog on a local disk (MEDIA_CATALOG_URL); the storage folder may stay where it is."


def prove_local(path: Path) -> None:
    """Raises: FileSystemUnfit where the catalog `path` is on a file system that no catalog can be on.

    Where it is a link, that is where it leads: SQLite's log lies beside the file itself.
    """
    file = path.resolve()
    named = f"catalog {path}" if file == path.absolute() else f"catalog {path} (which is {file})"
    kind = file_system_of(file.parent)
    if kind is None:
        return
    family, _, name = kind.partition(".")
    if kind in _NETWORK or name in _NETWORK:
        raise FileSystemUnfit(
            f"The {named} is on a network file system ({kind}), where SQLite may damage it. {_REMEDY}"
        )
    if family == "fuse" and not _shares_memory(file.parent):
        raise FileSystemUnfit(
            f"The {named} is on a file system ({kind}) without shared memory maps. {_REMEDY}"
        )


def _shares_memory(folder: Path) -> bool:
    with suppress(PermissionError), TemporaryFile(dir=folder) as file:
        os.ftruncate(file.fileno(), mmap.PAGESIZE)
        try:
            mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_SHARED).close()
        except OSError:
            return False
    return True
