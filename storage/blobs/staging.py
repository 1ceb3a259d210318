"""Staging: a folder for each process, locked by it, so that others notice when it has died.

It lies in `staging/`; and, for an area on another volume than that, in the area itself, beside what its
files become.
"""

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count as counter
from threading import RLock
from uuid import uuid4

from storage import keys
from storage.blobs.mapping import NOT_OFFERED
from storage.blobs.root import Root, enter
from storage.blobs.syscalls import same_folder
from storage.errors import BlobsUnavailable, FileSystemUnfit

_TRIES = 100  # to make a folder of one's own, before an error says that each is removed at once
_PRIVATE = 0o700
_UNREADABLE = 0o600


@dataclass
class Staged:
    """An unfinished write: a descriptor open for reading and writing, and a name that means nothing yet."""

    fd: int
    name: str
    is_published: bool = False  # then there is nothing under its name any more


@dataclass
class StagingFolder:
    """A staging folder of this process: its place, its name there, and the files that are in it."""

    place: tuple[str, ...]
    name: str
    fd: int
    files: set[str] = field(default_factory=set)
    lost: bool = False
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = "/".join((*self.place, self.name))


class Staging:
    """The staging folders of this process; `leave` them."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._folders: dict[tuple[str, ...], StagingFolder] = {}
        self._of_file: dict[str, StagingFolder] = {}
        self._apart: set[str] = set()
        self._lock = RLock()
        self._numbers = counter()

    def occupy(self) -> None:
        """Take a staging folder of one's own and remove those of processes that died."""
        with self._lock:
            for area in keys.AREAS:
                if area != keys.STAGING:
                    self._tidy_beside(area)
            self._staging_folder((keys.STAGING,))

    def leave(self) -> None:
        """Give the staging folders back."""
        with self._lock:
            for staging in self._folders.values():
                with (
                    suppress(OSError, BlobsUnavailable),
                    self._root.folder(staging.place, moved=True) as place,
                ):
                    _remove_folder(place, staging.name)
                os.close(staging.fd)
            self._folders.clear()

    def lies_beside(self, staged: Staged, area: str) -> bool:
        """Whether the file was made in that area itself."""
        return self._of_file[staged.name].place == (area, keys.BESIDE)

    def set_apart(self, area: str) -> None:
        """Remember that the area is on another volume than `staging/`."""
        self._apart.add(area)

    def make(self, count: int, area: str, mode: int = _UNREADABLE) -> Sequence[Staged]:
        """`count` empty files on the volume of `area`, as far as it is known."""
        place = (area, keys.BESIDE) if area in self._apart else (keys.STAGING,)
        with self._lock:
            staging = self._staging_folder(place)
            names = [f"{next(self._numbers)}" for _ in range(count)]
            staging.files.update(names)
            self._of_file |= dict.fromkeys(names, staging)
        staged: list[Staged] = []
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            for name in names:
                staged.append(Staged(os.open(name, flags, mode, dir_fd=staging.fd), name))
        except OSError:
            self.drop(staged)
            self._forget(names)
            raise
        return staged

    def folder_of(self, staged: Staged) -> int:
        """The folder that the file was made in. Raises: BlobsUnavailable where it has left."""
        try:
            return self._of_file[staged.name].fd
        except KeyError as error:
            raise BlobsUnavailable("a staged file is gone") from error

    def folders_of(self, some: Iterable[Staged]) -> set[int]:
        """The folders that these files were made in, as far as they have not left."""
        return {self._of_file[staged.name].fd for staged in some if staged.name in self._of_file}

    def drop(self, staged: Sequence[Staged]) -> None:
        """Close files, and remove those that have not become anything."""
        for file in staged:
            os.close(file.fd)
            if not file.is_published:
                with suppress(FileNotFoundError):
                    os.unlink(file.name, dir_fd=self._of_file[file.name].fd)
        self._forget([file.name for file in staged])

    def _forget(self, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                staging = self._of_file.pop(name, None)
                if staging is not None:
                    staging.files.discard(name)
                    if staging.lost and not staging.files:
                        os.close(staging.fd)

    def _staging_folder(self, place: tuple[str, ...]) -> StagingFolder:
        staging = self._folders.get(place)
        if staging is not None and not self._is_there(staging):  # somebody has cleared it away under us
            del self._folders[place]
            staging.lost = True
            if not staging.files:
                os.close(staging.fd)
            staging = None
        if staging is None:
            staging = self._folders[place] = self._new_staging_folder(place)
        return staging

    def _is_there(self, staging: StagingFolder) -> bool:
        try:
            found = os.stat(staging.path, dir_fd=self._root.fd, follow_symlinks=False)
        except OSError:
            return False
        return same_folder(found, os.fstat(staging.fd))

    def _new_staging_folder(self, place: tuple[str, ...]) -> StagingFolder:
        with self._place(place) as folder:
            _remove_abandoned(folder)
            for _ in range(_TRIES):
                name = f"w{uuid4().hex}"
                fd = _occupied(folder, name)
                if fd is not None:
                    return StagingFolder(place, name, fd)
        raise BlobsUnavailable(f"each new folder in {self._root.path.joinpath(*place)} is taken away at once")

    @contextmanager
    def _place(self, place: tuple[str, ...]) -> Iterator[int]:
        """Where staging folders are, made if it is missing; what lies beside blobs is nobody else's."""
        with self._root.folder(place[:1], create=True) as area:
            if len(place) == 1:
                yield area
                return
            fd = enter(area, place[1], create=True, mode=_PRIVATE)
            try:
                yield fd
            finally:
                os.close(fd)

    def _tidy_beside(self, area: str) -> None:
        with suppress(OSError), self._root.folder([area, keys.BESIDE]) as folder:
            _remove_abandoned(folder)


def _occupied(place: int, name: str) -> int | None:
    """A new folder, open and locked; None if another process took it for abandoned before it was."""
    try:
        fd = enter(place, name, create=True, mode=_PRIVATE)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Not by its number of links: there are file systems that count none.
        if same_folder(os.stat(name, dir_fd=place, follow_symlinks=False), os.fstat(fd)):
            return fd
    except FileNotFoundError:
        pass
    except OSError as error:
        os.close(fd)
        with suppress(OSError):
            os.rmdir(name, dir_fd=place)
        if error.errno in NOT_OFFERED | {errno.ENOLCK}:
            raise FileSystemUnfit(
                f"The file system of {os.readlink(f'/proc/self/fd/{place}')} has no locks (flock), without "
                "which nobody can tell whether another worker lives. Use another file system for it."
            ) from error
        raise
    os.close(fd)
    return None


def _remove_abandoned(place: int) -> None:
    for name in os.listdir(place):
        if name.startswith("w"):
            _remove_if_abandoned(place, name)


def _remove_if_abandoned(place: int, name: str) -> None:
    try:
        fd = enter(place, name, create=False)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_folder(place, name)
    except (BlockingIOError, FileNotFoundError):
        pass  # its owner lives, or a neighbour that starts too has removed it
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # something else lies in it than files
            raise
    finally:
        os.close(fd)


def _remove_folder(parent: int, name: str) -> None:
    fd = enter(parent, name, create=False)
    try:
        for entry in os.listdir(fd):
            os.unlink(entry, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
