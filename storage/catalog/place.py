"""Where a catalog can be: SQLite's log needs a disk of this host, with memory that processes share."""

import mmap
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from storage.errors import FileSystemUnfit
from storage.mounts import file_system_of

_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "apfs", "tmpfs", "overlay"}
)
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "kafs", "coda", "ncpfs", "davfs"}
    | {"ceph", "lustre", "beegfs", "gpfs", "pvfs2", "orangefs", "panfs", "wekafs", "ocfs2", "gfs2"}
    # in user space, known by what follows "fuse."
    | {"davfs2", "glusterfs", "sshfs", "curlftpfs", "smbnetfs", "ceph-fuse", "mfs", "moosefs"}
    | {"lizardfs", "saunafs", "seaweedfs", "quobyte", "xtreemfs", "fuse_dfs", "alluxio-fuse", "cvmfs2"}
    | {"s3fs", "goofys", "geesefs", "mountpoint-s3", "objectivefs", "cunofs", "tigrisfs", "juicefs"}
    | {"rclone", "gcsfuse", "blobfuse", "blobfuse2", "gvfsd-fuse", "kio-fuse", "google-drive-ocamlfuse"}
    | {"onedriver"}
)
_SHARED = frozenset(
    {"vboxsf", "vmhgfs", "vmhgfs-fuse", "prl_fs", "virtiofs", "fakeowner", "grpcfuse", "osxfs"} | {"drvfs"}
)  # a folder of the host, in a virtual machine
_REMEDY = "Put the catalog on a local disk (MEDIA_CATALOG_URL); the storage folder may stay where it is."


def check_local(path: Path) -> None:
    """Raises: FileSystemUnfit where the catalog `path` is on a file system that no catalog can be on.

    Where it is a link, that is where it leads: SQLite's log lies beside the file itself.
    """
    file = path.resolve()
    named = f"catalog {path}" if file == path.absolute() else f"catalog {path} (which is {file})"
    for place in (file.parent, file):  # a container may have the file alone mounted
        kind = file_system_of(place)
        if kind is None or kind in _LOCAL:
            continue
        names = {kind, kind.partition(".")[2]}
        if names & _NETWORK or names & _SHARED:
            what = "network file system" if names & _NETWORK else "file system that another machine shares"
            raise FileSystemUnfit(
                f"The {named} is on a {what} ({kind}), where SQLite may damage it. {_REMEDY}"
            )
        if not _shares_memory(file.parent):
            raise FileSystemUnfit(
                f"The {named} is on a file system ({kind}) without shared memory maps. {_REMEDY}"
            )


def _shares_memory(folder: Path) -> bool:
    with suppress(OSError), TemporaryFile(dir=folder) as file:
        os.ftruncate(file.fileno(), mmap.PAGESIZE)
        try:
            mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_SHARED).close()
        except OSError:
            return False
    return True  # also where it cannot be tried: the catalog itself reports who cannot write there
