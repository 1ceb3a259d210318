"""Names change: a staged file becomes a blob, a blob gets another key; from one volume to another by a copy.

A copy is durable under its new name before the old one goes, so that a crash leaves both at worst.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from storage.blobs.mapping import NOT_A_FILE, NOT_ALLOWED
from storage.blobs.root import Root, spelled
from storage.blobs.staging import Staged, Staging
from storage.blobs.syscalls import grant, rename_aside, same_file, sync_folder
from storage.errors import BlobPinned, BlobRefused, BlobsUnavailable, TargetUnavailable, user

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK = 1 << 20


class Mover:
    """Renames files of one root."""

    def __init__(self, root: Root, staging: Staging) -> None:
        self._root = root
        self._staging = staging

    def publish(self, staged: Staged, area: str, name: str, folder: int) -> None:
        """Give a staged file, which is durable, its name in that folder of `area`."""
        here = self._staging.folder_of(staged)
        try:
            os.rename(staged.name, name, src_dir_fd=here, dst_dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._publish_copy(staged.fd, area, name, folder, replace=True)
            os.unlink(staged.name, dir_fd=here)
        staged.is_published = True

    def move(self, parts: Sequence[str], to: Sequence[str], *, replace: bool) -> os.stat_result | None:
        """Give a regular file another place; returns how it was found there, None if it stays where it is.

        Raises: OSError, BlobRefused, BlobPinned, TargetUnavailable.
        """
        with self._root.folder(parts[:-1]) as here:
            name = spelled(here, parts[-1], parts[0])
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):  # a folder would take everything in it along
                raise BlobRefused(f"{'/'.join(parts)} is not a regular file")
            with self._target(to[0]), self._root.folder(to[:-1], create=True) as there:
                try:
                    if not _rename(name, to[-1], here, there, replace=replace):
                        return None
                    moved = os.stat(to[-1], dir_fd=there, follow_symlinks=False)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        self._check_not_pinned(parts, here, error)
                        raise
                    return self._move_by_copy(parts, name, to, here, there, replace=replace)
                sync_folder(there)
            sync_folder(here)
        return moved

    @contextmanager
    def _target(self, area: str) -> Iterator[None]:
        """What fails in the body fails because of where the file is to go."""
        try:
            yield
        except (BlobPinned, FileNotFoundError):
            raise  # it is the file's own folder, or the file is gone
        except (BlobsUnavailable, OSError) as error:
            if isinstance(error, OSError) and error.errno in NOT_A_FILE:
                raise  # a link on the way, which is refused wherever it is met
            reason = error.strerror if isinstance(error, OSError) else str(error)
            path = self._root.path / area
            raise TargetUnavailable(
                f"nothing can be moved to {path} by the user {user()}: {reason}"
            ) from error

    def _move_by_copy(
        self, parts: Sequence[str], name: str, to: Sequence[str], here: int, there: int, *, replace: bool
    ) -> os.stat_result | None:
        """Move a file to another volume."""
        try:
            fd = os.open(name, _READ, dir_fd=here)
        except PermissionError as error:
            raise self._pinned(parts, error) from error
        try:
            before = os.fstat(fd)
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=here, effective_ids=True):
                raise self._pinned(parts, OSError(errno.EACCES, os.strerror(errno.EACCES)))
            if not self._publish_copy(fd, to[0], to[-1], there, replace=replace):
                return None
            sync_folder(there)
        finally:
            os.close(fd)
        # Another that has come in its place meanwhile stays.
        if _is_unchanged(before, name, here):
            try:
                os.unlink(name, dir_fd=here)
            except OSError as error:
                if error.errno in NOT_ALLOWED:
                    os.unlink(to[-1], dir_fd=there)
                    raise self._pinned(parts, error) from error
                raise
            sync_folder(here)
        return before

    def _publish_copy(self, fd: int, area: str, name: str, folder: int, *, replace: bool) -> bool:
        """Copy an open file to the volume of `area`, and give the copy its name in that folder there."""
        status = os.fstat(fd)
        while True:
            [staged] = self._staging.make(1, area)
            try:
                _copy(fd, staged.fd)
                grant(staged.fd, stat.S_IMODE(status.st_mode))
                os.utime(staged.fd, ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fsync(staged.fd)
                here = self._staging.folder_of(staged)
                return _rename(staged.name, name, here, folder, replace=replace)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                if self._staging.lies_beside(staged, area):
                    path = self._root.path / area
                    raise BlobsUnavailable(
                        f"below {path} there is another volume, to which no file of {path} can be renamed. "
                        "Mount it in the place of the whole folder."
                    ) from error
                self._staging.set_apart(area)
            finally:
                self._staging.drop([staged])

    def _check_not_pinned(self, parts: Sequence[str], here: int, error: OSError) -> None:
        """Raises: BlobPinned where it is the file's own folder that lets nothing go."""
        if error.errno in NOT_ALLOWED and (
            error.errno == errno.EPERM  # a sticky folder, or a file that may not be changed
            or not os.access(".", os.W_OK | os.X_OK, dir_fd=here, effective_ids=True)
        ):
            raise self._pinned(parts, error) from error

    def _pinned(self, parts: Sequence[str], error: OSError) -> BlobPinned:
        path = self._root.path.joinpath(*parts)
        return BlobPinned(f"{path} cannot be taken away by the user {user()}: {error.strerror}")


def _rename(name: str, target: str, here: int, there: int, *, replace: bool) -> bool:
    """Rename a file; False if another was there already, which stays."""
    if not replace:
        return rename_aside(name, target, here, there)
    os.rename(name, target, src_dir_fd=here, dst_dir_fd=there)
    return True


def _copy(source: int, target: int) -> None:
    os.lseek(target, 0, os.SEEK_SET)
    at = 0
    while chunk := os.pread(source, _CHUNK, at):
        at += len(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(target, rest) :]


def _is_unchanged(before: os.stat_result, name: str, folder: int) -> bool:
    try:
        now = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    same = (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
    return same_file(now, before) and same
