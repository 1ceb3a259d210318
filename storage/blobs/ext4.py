"""What ext4 does not tell whoever flushes: bytes that it has dropped, and a journal that it has given up."""

import errno
import os

from storage.blobs import whole_flush
from storage.blobs.mapping import NOT_OFFERED

_MOST_IN_INODE = 4096  # bytes of a file that may lie in its inode, which is as large at most
_BLOCK = 512  # in which `stat` counts, whatever the file system's are
_ABSENT = "user.absent"
_TAKES_CHANGES = NOT_OFFERED | {errno.ENODATA}  # some are mounted without attributes


class Ext4:
    """Looks at what was flushed where the file system is ext4, and nowhere else."""

    def __init__(self) -> None:
        self._is_ext4: dict[int, bool] = {}  # by device

    def check_bytes(self, fd: int) -> None:
        """Raises: OSError where a file that was flushed has less on the disk than was written.

        Places are found late. Where there is none, the bytes are dropped, and the flush may say that all is
        well.
        """
        status = os.fstat(fd)
        if status.st_blocks * _BLOCK < status.st_size > _MOST_IN_INODE and self._is(status.st_dev):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def check_names(self, folder: int) -> None:
        """Raises: OSError where the names that were flushed to the file system of that folder may be lost.

        That its journal cannot be written is told once, to whoever waits for it, who may be any program;
        later flushes have nothing to wait for. Whoever wants to change something afterwards is refused, also
        an attribute that is not there.
        """
        if self._is(os.fstat(folder).st_dev):
            try:
                os.removexattr(folder, _ABSENT)
            except OSError as error:
                if error.errno not in _TAKES_CHANGES:
                    raise

    def _is(self, device: int) -> bool:
        if device not in self._is_ext4:
            self._is_ext4[device] = whole_flush.kind_of(device) == "ext4"
        return self._is_ext4[device]
