"""The root folder: the one place that opens folders below it, and notices when it is exchanged."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from storage.blobs.folders import DIRECTORY
from storage.blobs.mapping import mapped, unavailable
from storage.blobs.marker import read_marker, replace_marker, write_marker
from storage.blobs.owners import check_owner, tell_how_to_mark
from storage.blobs.syscalls import grant, same_folder, sync_folder
from storage.blobs.volumes import Volume, read_volumes, remember_volumes, why_missing
from storage.errors import FileSystemUnfit, RootMismatch, StorageError, VolumeMissing
from storage.keys import AREAS, MARKER, UPLOADS, VARIANTS, VOLUMES, is_hidden, spellings
from storage.mounts import file_system_of

FOLDER_MODE = 0o755  # the web server that serves variants is another user
_THROUGH_LINKS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Root:
    """The folder at `path`, open as `fd`; `close` it.

    An area (`uploads/` and the like, directly below) may be a volume of its own, or a link that the operator
    has made. Below it no link is followed.
    """

    def __init__(self, path: Path, fd: int, folder_mode: int = FOLDER_MODE) -> None:
        self.path = path
        self.fd = fd
        self._folder_mode = folder_mode
        self._catalog_id: str | None = None
        self._lock = Lock()
        self._devices: dict[str, int] = {}  # of each area that was entered

    def close(self) -> None:
        os.close(self.fd)

    # -- folders, each opened relative to the one before

    @contextmanager
    def folder(self, parts: Sequence[str], *, create: bool = False, moved: bool = False) -> Iterator[int]:
        """The folder under these names, open; `moved`: also where the root was moved away meanwhile.

        Raises: OSError, BlobsUnavailable, RootMismatch.
        """
        if not moved:
            self.check_place()
        fd = os.dup(self.fd)
        try:
            for depth in range(1, len(parts) + 1):
                deeper = self.enter(fd, parts[:depth], create=create)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def enter(
        self,
        above: int,
        path: Sequence[str],
        *,
        create: bool = False,
        on_made: Callable[[int], object] = sync_folder,
    ) -> int:
        """The folder under the last name of `path`, which lies in the open folder `above`, open.

        Where it had to be made, `on_made` gets `above`: its new name there is to be durable.
        """
        if len(path) == 1 and path[0] in AREAS:
            return self._enter_area(path[0], create=create, on_made=on_made)
        name = path[-1] if create else spelled(above, path[-1], path[0])
        return enter(above, name, create=create, mode=self._folder_mode, on_made=on_made)

    def _enter_area(self, name: str, *, create: bool, on_made: Callable[[int], object]) -> int:
        path = self.path / name
        try:
            fd = self._open_area(name, create=create, on_made=on_made)
        except FileNotFoundError:
            raise
        except OSError as error:  # whatever lies under it, this says nothing of any file below
            raise unavailable(path, error) from error
        try:
            self._check_volume(name, fd)
        except StorageError:
            os.close(fd)
            raise
        return fd

    def _check_volume(self, area: str, fd: int) -> None:
        device = os.fstat(fd).st_dev
        known = self._devices.get(area)
        if known == device:
            return
        path = self.path / area
        was = self._volumes().get(area)
        if was and (missing := why_missing(self.path, self.fd, area, fd, was)):
            raise VolumeMissing(missing)
        if known is None:
            _check_inodes(path, fd)
        elif was is None:  # one that is mounted again may have another number
            raise VolumeMissing(
                f"{path} is on another file system than when this process began. Is a disk not mounted? "
                "If it is meant to be so, start the worker anew."
            )
        self._devices[area] = device

    def _open_area(self, name: str, *, create: bool, on_made: Callable[[int], object]) -> int:
        was_entered = name in self._devices  # asked first: another thread may be making the folder
        try:
            return os.open(name, _THROUGH_LINKS, dir_fd=self.fd)
        except FileNotFoundError:
            self._check_absence(name, was_entered=was_entered)
            if not create:
                raise
        return _make(self.fd, name, _THROUGH_LINKS, self._folder_mode, on_made)

    def _check_absence(self, name: str, *, was_entered: bool) -> None:
        """A disk that is not mounted must not look like files that are gone."""
        path = self.path / name
        with suppress(FileNotFoundError, OSError):
            target = os.readlink(name, dir_fd=self.fd)
            raise VolumeMissing(f"{path} is a link to {target}, which is not there. Is a disk not mounted?")
        if name in self._volumes():
            raise VolumeMissing(
                f"{path} was a volume of its own, and is gone. Is a disk not mounted? "
                f"If it is to be a folder of this one: rm {self.path / VOLUMES}"
            )
        if name == UPLOADS and was_entered:
            raise VolumeMissing(f"{path} is gone. Is a disk not mounted, or was it moved away?")

    # -- the root's identity

    def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        """Make sure that this root belongs to the catalog `catalog_id`; a new pair is bound here.

        Raises: RootMismatch when the marker is another catalog's, or missing where it must be,
        BlobsUnavailable.
        """
        with mapped(MARKER):
            found = read_marker(self.fd)
            if found is None and catalog_is_new:
                if not self._holds_variants():
                    write_marker(self.fd, catalog_id)
                found = read_marker(self.fd)  # where there are variants now, another worker was first
                if found is None:
                    raise RootMismatch(
                        f"{self.path} has no {MARKER}, but there are variants already, of another catalog. "
                        "Correct MEDIA_CATALOG_URL, or restore that one; where it is lost, `media rebuild` "
                        "makes a new one for an existing root."
                    )
        self._check_marker(found, catalog_id)
        self._catalog_id = catalog_id

    def catalog_id(self) -> str | None:
        """What the marker says, if there is one that can be read. Raises: BlobsUnavailable."""
        with mapped(MARKER), suppress(RootMismatch):
            return read_marker(self.fd)
        return None

    def rebind(self, catalog_id: str) -> None:
        """Give this root to the catalog `catalog_id`, whatever it belonged to. Raises: BlobsUnavailable."""
        with mapped(MARKER):
            replace_marker(self.fd, catalog_id)
        self._catalog_id = catalog_id

    def check_identity(self) -> None:
        """Raises: RootMismatch where the root is not the one that was bound (any more), BlobsUnavailable."""
        self.check_place()
        if self._catalog_id is not None:
            with mapped(MARKER):
                found = read_marker(self.fd)
            self._check_marker(found, self._catalog_id)

    def remember_volumes(self) -> None:
        """Write down which areas are volumes by now, so that the next process knows one that is missing.

        Nothing is written in a root that is not bound, or lets nothing be written.
        """
        if self._catalog_id is not None:
            with suppress(OSError):
                remember_volumes(self.fd, entered=self._devices.keys())

    def _volumes(self) -> Mapping[str, Volume]:
        try:
            return read_volumes(self.fd)
        except OSError as error:
            raise unavailable(self.path / VOLUMES, error) from error

    def _check_marker(self, found: str | None, catalog_id: str) -> None:
        if found is None:
            raise RootMismatch(
                f"{self.path} has no {MARKER}, but its catalog has described a root before. Is a disk not "
                "mounted, or the catalog another one's? If this is its root, restored from a backup without "
                f"the marker, give it back: {tell_how_to_mark(catalog_id, str(self.path))}"
            )
        check_owner(found, catalog_id, f"file:{self.path}")

    def _holds_variants(self) -> bool:
        try:
            with self.folder([VARIANTS]) as folder:
                return any(not is_hidden(name) for name in os.listdir(folder))
        except FileNotFoundError:
            return False

    def check_place(self) -> None:
        """The folder that is open still is the one at `path`; another there that is ours takes its place.

        Raises: RootMismatch, BlobsUnavailable.
        """
        if self._catalog_id is None:
            return
        try:
            if same_folder(os.stat(self.path), os.fstat(self.fd)):
                return
            with self._lock:
                self._open_anew(self._catalog_id)
        except FileNotFoundError as error:
            raise RootMismatch(f"The storage root {self.path} is gone. Is a disk not mounted?") from error
        except OSError as error:
            raise unavailable(self.path, error) from error

    def _open_anew(self, catalog_id: str) -> None:
        fd = os.open(self.path, _THROUGH_LINKS)
        try:
            self._check_marker(read_marker(fd), catalog_id)
            os.dup2(fd, self.fd, inheritable=False)
            self._devices.clear()
        finally:
            os.close(fd)


def enter(
    folder: int,
    name: str,
    *,
    create: bool,
    mode: int = FOLDER_MODE,
    on_made: Callable[[int], object] = sync_folder,
) -> int:
    """The folder under that name, open, never through a link; it is made first where `create` is true."""
    try:
        return os.open(name, DIRECTORY, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    return _make(folder, name, DIRECTORY, mode, on_made)


def _make(folder: int, name: str, flags: int, mode: int, on_made: Callable[[int], object]) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=folder)
    fd = os.open(name, flags, dir_fd=folder)
    try:
        grant(fd, mode)  # whatever the umask
        on_made(folder)
    except OSError:
        os.close(fd)
        raise
    return fd


def spelled(folder: int, name: str, key: str) -> str:
    """`name` as it is spelled in that folder, which lies on the way to `key`.

    An app and a file system may each write an `ä` in its own way (Unicode's normal forms C and D); that is
    one name, unless there are two files. Only apps name files so, and only in `uploads/`.
    """
    if name.isascii() or key.partition("/")[0] != UPLOADS:
        return name
    for form in (name, *spellings(name)):
        with suppress(OSError):
            os.stat(form, dir_fd=folder, follow_symlinks=False)
            return form
    return name


def _check_inodes(path: Path, folder: int) -> None:
    """Raises: FileSystemUnfit where the inode number of this folder differs at each stat."""
    found = [os.stat(".", dir_fd=folder) for _ in range(3)]
    if len({status.st_ino for status in found}) != 1:
        raise FileSystemUnfit(
            f"The file system of {path} ({file_system_of(path)}) gives a file another number (inode) at each "
            "look, so that nobody can tell whether a file was exchanged. Use another file system, or an "
            "option of this one that keeps the numbers."
        )
