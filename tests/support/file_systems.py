"""File systems that lack what others have: the system's own calls, with another answer."""

import errno
import itertools
import os
import stat
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from storage.blobs import syscalls

Oddity = Callable[[pytest.MonkeyPatch], None]


def _refused(number: int) -> Callable[..., Any]:
    def refuse(*_args: Any, **_more: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


def without_links(patch: pytest.MonkeyPatch) -> None:
    """As exFAT: no hard links."""
    patch.setattr(os, "link", _refused(errno.EPERM))


def without_links_and_flags(patch: pytest.MonkeyPatch) -> None:
    """As an old FUSE program: neither hard links nor a rename with flags."""
    without_links(patch)
    patch.setattr(syscalls, "_renameat2", _refused(errno.EINVAL))


def without_folder_fsync(patch: pytest.MonkeyPatch) -> None:
    """A file system on which a folder cannot be made durable."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    patch.setattr(os, "fsync", fsync)


def without_modes(patch: pytest.MonkeyPatch) -> None:
    """As FAT: files have the mode of the mount."""
    patch.setattr(os, "fchmod", _refused(errno.EPERM))


def without_link_counts(patch: pytest.MonkeyPatch) -> None:
    """A file system that counts no links: what has none is no more to be linked."""
    patch.setattr(os, "link", _refused(errno.ENOENT))
    _with_facts(patch, lambda _path: {"st_nlink": 0})


def with_numbers_of_paths(patch: pytest.MonkeyPatch) -> None:
    """As mergerfs with `inodecalc=path-hash`: a file that is renamed gets another number.

    The catalog, which was opened before, lies on another file system.
    """
    _with_facts(
        patch, lambda path: {} if path.endswith("/catalog.db") else {"st_ino": zlib.crc32(path.encode())}
    )


def with_new_numbers(patch: pytest.MonkeyPatch) -> None:
    """A file has another number at each look."""
    numbers = itertools.count(1_000_000)
    _with_facts(patch, lambda _path: {"st_ino": next(numbers)})


def with_whole_seconds(patch: pytest.MonkeyPatch) -> None:
    """A file system that keeps times in seconds."""
    _with_facts(patch, lambda _path: {}, whole_seconds=True)


def _with_facts(
    patch: pytest.MonkeyPatch, status_of: Callable[[str], dict[str, int]], *, whole_seconds: bool = False
) -> None:
    real_stat, real_fstat = os.stat, os.fstat

    def answer(found: os.stat_result, path: str) -> os.stat_result:
        names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size")
        status = {name: getattr(found, name) for name in names} | status_of(path)
        others: dict[str, float] = {"st_blocks": found.st_blocks}
        for name in ("st_atime", "st_mtime", "st_ctime"):
            ns = getattr(found, f"{name}_ns")
            ns -= ns % 1_000_000_000 if whole_seconds else 0
            others |= {name: ns / 1e9, f"{name}_ns": ns}
        seconds = [others[name] // 1 for name in ("st_atime", "st_mtime", "st_ctime")]
        return os.stat_result([*status.values(), *seconds], others)

    def stat_(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        found = real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if isinstance(path, int):
            return answer(found, os.readlink(f"/proc/self/fd/{path}"))
        folder = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else ""
        return answer(found, os.path.realpath(os.path.join(folder, path)))

    def fstat(fd: int) -> os.stat_result:
        return answer(real_fstat(fd), os.readlink(f"/proc/self/fd/{fd}"))

    patch.setattr(os, "stat", stat_)
    patch.setattr(os, "fstat", fstat)


WORKABLE: dict[str, Oddity] = {
    "no hard links": without_links,
    "no hard links and no exclusive rename": without_links_and_flags,
    "no fsync of folders": without_folder_fsync,
    "no modes": without_modes,
    "no link counts": without_link_counts,
    "numbers of paths": with_numbers_of_paths,
    "whole seconds": with_whole_seconds,
}
