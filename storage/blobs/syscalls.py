"""Calls that not every file system knows, each with the next best way where it is missing."""

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import cast
from uuid import uuid4

from storage.blobs.mapping import NOT_OFFERED

_NOREPLACE = 1
_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_READABLE = 0o644
# A file of which the file system says that it has no name (link count 0) cannot be linked either.
_NO_LINKS = NOT_OFFERED | {errno.ENOENT}
_NO_SYNC = NOT_OFFERED - {errno.EPERM}
_NO_RANGE = NOT_OFFERED | {errno.ESPIPE}


def sync_folder(folder: int) -> bool:
    """Make the names in a folder durable; False where its file system has no such call."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno in _NO_SYNC:
            return False
        raise
    return True


def begin_flush(fd: int) -> None:
    """Have a file's bytes on their way to the disk before a flush waits for them: several go at once.

    Raises: OSError. Where ext4 finds no place for the bytes, it drops them and tells only whoever has them
    written, which is this call then.
    """
    try:
        call = _sync_file_range()
    except AttributeError:  # a C library without it
        return
    if call(fd, 0, 0, _WRITE) != 0:
        number = ctypes.get_errno()
        if number not in _NO_RANGE:
            raise OSError(number, os.strerror(number))


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int]:
    call = ctypes.CDLL(None, use_errno=True).sync_file_range
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast(Callable[[int, int, int, int], int], call)


def sync_file_system(fd: int) -> None:
    """Make all that was written to the file system of an open file durable. Raises: OSError.

    Without a journal, ext4 tells the disk to keep what it has cached before the last of it is written
    (`ext4_sync_fs`). So an `fsync` follows, which does nothing else here but tell it once more.
    """
    try:
        call = _syncfs()
    except AttributeError as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    if call(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.fsync(fd)


@cache
def _syncfs() -> Callable[[int], int]:
    return cast(Callable[[int], int], ctypes.CDLL(None, use_errno=True).syncfs)


def grant(fd: int, mode: int) -> None:
    """Give an open file or folder its mode; a file system that keeps none shows all with modes of its own."""
    if stat.S_IMODE(os.fstat(fd).st_mode) == mode:
        return  # as it mostly is, whatever the umask and the folder's rules might have made of it
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise


def can_rename_aside(name: str, target: str, here: int, there: int) -> bool:
    """Give a file another name that is not taken; whether the file system would have kept one that is."""
    try:
        os.link(name, target, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
        os.unlink(target, dir_fd=there)
        keeps = True
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        keeps = False
    try:
        _renameat2(name, target, here, there)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        os.rename(name, target, src_dir_fd=here, dst_dir_fd=there)
    else:
        keeps = True
    return keeps


def rename_aside(name: str, target: str, here: int, there: int) -> bool:
    """Give a file another name, unless another file is under it already; returns whether it was done."""
    try:
        os.link(name, target, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    except FileExistsError:
        if not _same(name, target, here, there):
            return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_noreplace(name, target, here, there)
    sync_folder(there)  # the new name is durable before the old one goes
    os.unlink(name, dir_fd=here)
    return True


@contextmanager
def alone_in(folder: int) -> Iterator[None]:
    """The only process of this host in the body for that folder, where its file system has locks."""
    locked = False
    with suppress(OSError):
        fcntl.flock(folder, fcntl.LOCK_EX)
        locked = True
    try:
        yield
    finally:
        if locked:
            fcntl.flock(folder, fcntl.LOCK_UN)


def _rename_noreplace(name: str, target: str, here: int, there: int) -> bool:
    """The same where there are no hard links."""
    try:
        _renameat2(name, target, here, there)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        # Nothing of the kind: two who do it at the same moment may both succeed, with the later one's file.
        try:
            os.stat(target, dir_fd=there, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, target, src_dir_fd=here, dst_dir_fd=there)
        else:
            return False
    return True


def _renameat2(name: str, target: str, here: int, there: int) -> None:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError as error:  # a C library older than the system call
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    if call(here, os.fsencode(name), there, os.fsencode(target), _NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _same(name: str, target: str, here: int, there: int) -> bool:
    one = os.stat(name, dir_fd=here, follow_symlinks=False)
    other = os.stat(target, dir_fd=there, follow_symlinks=False)
    return same_file(one, other)


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both describe the same regular file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) and stat.S_ISREG(one.st_mode)


def same_folder(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both describe the same folder."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def write_aside(folder: int, name: str, content: bytes) -> str:
    """Write a durable file beside `name` that all may read; returns its own name. No half of it stays."""
    aside = f"{name}.{uuid4().hex}"
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _READABLE, dir_fd=folder)
        with open(fd, "wb") as file:
            file.write(content)
            grant(fd, _READABLE)
            file.flush()
            os.fsync(fd)
    except OSError:
        with suppress(OSError):  # on a full disk, each try would leave one
            os.unlink(aside, dir_fd=folder)
        raise
    return aside


def replace_file(folder: int, name: str, content: bytes) -> None:
    """Have `name` hold that, at once and durably, whatever it held. Raises: OSError."""
    aside = write_aside(folder, name, content)
    try:
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(aside, dir_fd=folder)
        raise
    sync_folder(folder)
