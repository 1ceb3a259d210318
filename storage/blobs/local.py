"""Blobs as files below one folder: nothing outside it, whatever the key or a link below it says."""

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import ParamSpec, TypeVar

from storage import keys
from storage.blobs import BlobInfo, Existence, Source, Space
from storage.blobs.folders import walk
from storage.blobs.mapping import mapped
from storage.blobs.moving import Mover
from storage.blobs.root import FOLDER_MODE, Root, spelled
from storage.blobs.staging import Staged, Staging
from storage.blobs.syscalls import grant, same_file, sync_folder
from storage.blobs.trial import find_lacks
from storage.errors import (
    BlobForbidden,
    BlobPinned,
    BlobRefused,
    BlobsUnavailable,
    RootMismatch,
    StorageError,
    user,
)
from storage.paths import is_there
from storage.threads import in_thread, in_thread_or_undo

P = ParamSpec("P")
T = TypeVar("T")

_KEYS_A_PAGE = 5000
_FILE_MODE = 0o644  # the web server that serves variants is another user
_PROBE_BYTES = 64 * 1024
_PROBE = f"{keys.VARIANTS}/{keys.HIDDEN}probe"


class LocalBlobs:
    """Blobs below `root`, published atomically; hold it through `open_local`."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._staging = Staging(root)
        self._mover = Mover(root, self._staging)

    @property
    def root(self) -> Path:
        """The path of the root."""
        return self._root.path

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Source]:
        with mapped(key):
            fd = await in_thread_or_undo(os.close, partial(self._open_file, key))
        try:
            status = os.fstat(fd)
            yield Source(fd, status.st_size, _stamp(status), _info_of(key, status))
        finally:
            os.close(fd)

    async def get(self, key: str) -> bytes:
        async with self.open(key) as source:
            return await _call(_read, key, source.fd)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        async with self.stage(1) as [staged]:
            size = 0
            with mapped(key):
                async for chunk in chunks:
                    size += await _call(_append, key, staged, chunk)
            await self.publish([(staged, key)])
        return size

    @asynccontextmanager
    async def stage(self, count: int) -> AsyncIterator[Sequence[Staged]]:
        """`count` empty staged files, closed and removed at the end unless they were published."""
        with mapped("a staged file"):
            staged = await in_thread_or_undo(self._staging.drop, partial(self._stage, count))
        try:
            yield staged
        finally:
            await _call(self._staging.drop, staged)

    async def publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        """Give staged files their keys: durable first, then visible, then the folder durable.

        Raises: BlobsUnavailable when there is another file in the place of a staged one.
        """
        await _call(self._publish, files)

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        await _call(self._store, contents)

    async def delete(self, key: str) -> None:
        await _call(self._delete, key)

    async def move(self, key: str, to: str, *, replace: bool = True) -> BlobInfo | None:
        return await _call(self._move, key, to, replace=replace)

    async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        return await _call(self._stat, keys)

    async def list(
        self, prefix: str, after: str = "", *, passed_over: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[Sequence[str], None]:
        with mapped(prefix), closing(self._walk(prefix, after, passed_over)) as found:
            while page := await in_thread(_next_page, found):
                yield page

    # -- files

    def _open_file(self, key: str) -> int:
        *folders, name = keys.segments(key)
        # O_NONBLOCK: a pipe under an upload's name must not hang its reader
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            with self._root.folder(folders) as folder:
                fd = os.open(spelled(folder, name, key), flags, dir_fd=folder)
        except PermissionError as error:
            raise BlobForbidden(
                f"{self.root / key} cannot be read by the user {user()}: {error.strerror}"
            ) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BlobRefused(f"{key} is not a regular file")
        return fd

    def _delete(self, key: str) -> None:
        *folders, name = keys.segments(key)
        with suppress(FileNotFoundError), self._root.folder(folders) as folder:
            os.unlink(name, dir_fd=folder)
            sync_folder(folder)
        self._prune(folders)

    def _prune(self, folders: Sequence[str]) -> None:
        """Remove these folders of the trash as far as they are empty; others stay, they fill again."""
        if not folders or folders[0] != keys.TRASH:
            return
        for depth in range(len(folders) - 1, 0, -1):
            try:
                with self._root.folder(folders[:depth]) as parent:
                    os.rmdir(folders[depth], dir_fd=parent)
            except OSError:
                return  # something is in it, or it has gone

    def _move(self, key: str, to: str, *, replace: bool) -> BlobInfo | None:
        parts, target = keys.segments(key), keys.segments(to)
        with suppress(FileNotFoundError):
            try:
                moved = self._mover.move(parts, target, replace=replace)
            except BlobPinned:
                self._prune(target[:-1])
                raise
            self._prune(parts[:-1])
            return _info_of(to, moved) if moved else None
        return None

    def _walk(
        self, prefix: str, after: str, passed_over: Callable[[str], object]
    ) -> Generator[Sequence[str], None, None]:
        with suppress(FileNotFoundError), self._root.folder(keys.segments(prefix)) as folder:
            yield from walk(folder, prefix, after, passed_over)

    def _stat(self, wanted: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        for key in wanted:
            keys.segments(key)
        found: dict[str, BlobInfo | Existence] = {}
        for path, group in groupby(wanted, key=lambda key: key.rpartition("/")[0]):
            found |= self._stat_in(path, list(group))
        return found

    def _stat_in(self, path: str, wanted: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        try:
            with self._root.folder(path.split("/") if path else []) as folder:
                return {key: _seen(folder, key) for key in wanted}
        except FileNotFoundError:
            return dict.fromkeys(wanted, Existence.MISSING)
        except (OSError, StorageError):
            return dict.fromkeys(wanted, Existence.UNKNOWN)

    # -- unfinished writes

    async def prepare(self) -> None:
        with mapped(keys.STAGING):
            await in_thread(self._staging.occupy)

    def close(self) -> None:
        """Remove the staging folders of this process, and let go of the root."""
        with suppress(OSError, StorageError):
            self._staging.leave()
        self._root.close()

    def _stage(self, count: int) -> Sequence[Staged]:
        return self._staging.make(count, keys.STAGING)

    def _store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        area = contents[0][0].partition("/")[0] if contents else keys.STAGING
        staged = self._staging.make(len(contents), area)
        try:
            for file, (_, content) in zip(staged, contents, strict=True):
                _write(file, content)
            self._publish([(file, key) for file, (key, _) in zip(staged, contents, strict=True)])
        finally:
            self._staging.drop(staged)

    def _publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        places = [keys.segments(key) for _, key in files]
        for staged, _ in files:
            self._recognise(staged)
            grant(staged.fd, _FILE_MODE)
            os.fsync(staged.fd)
        for (staged, _), place in zip(files, places, strict=True):
            with self._root.folder(place[:-1], create=True) as folder:
                self._mover.publish(staged, place[0], place[-1], folder)
                sync_folder(folder)

    def _recognise(self, staged: Staged) -> None:
        """Whoever tidies the storage may have put something else in the file's place."""
        try:
            there = os.stat(staged.name, dir_fd=self._staging.folder_of(staged), follow_symlinks=False)
        except FileNotFoundError as error:
            raise BlobsUnavailable("a staged file is gone") from error
        if not same_file(there, os.fstat(staged.fd)):
            raise BlobsUnavailable("there is another file in the place of a staged one")

    async def probe(self) -> None:
        """Publish and remove a little, as a test of the storage.

        Raises: RootMismatch, StorageFull, BlobsUnavailable.
        """
        await _call(self._probe)

    def _probe(self) -> None:
        self._root.prove()
        self._enter(keys.UPLOADS)
        self._store([(_PROBE, bytes(_PROBE_BYTES))])
        self._delete(_PROBE)
        self._root.remember_volumes()

    async def enter(self, area: str) -> None:
        await _call(self._enter, area)

    def _enter(self, area: str) -> None:
        with mapped(area), suppress(FileNotFoundError), self._root.folder([area]):
            pass

    async def find_lacks(self) -> Sequence[str]:
        await self.probe()  # which finds out where variants lie
        return await _call(find_lacks, self._root, self._staging)

    async def prove(self) -> None:
        """Raises: RootMismatch where the root is not the one that was bound (any more), BlobsUnavailable."""
        await _call(self._root.prove)

    async def space(self) -> Space:
        """How much room the file system of the root has for this user. Raises: BlobsUnavailable."""
        volume = await _call(os.fstatvfs, self._root.fd)
        block = volume.f_frsize
        free_files = volume.f_favail if volume.f_files else None  # some make room for files as they come
        return Space(volume.f_blocks * block, volume.f_bavail * block, free_files)

    # -- the root's identity

    async def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        await in_thread(self._root.bind, catalog_id, catalog_is_new=catalog_is_new)

    async def catalog_id(self) -> str | None:
        return await in_thread(self._root.catalog_id)

    async def rebind(self, catalog_id: str) -> None:
        await in_thread(self._root.rebind, catalog_id)


@asynccontextmanager
async def open_local(root: Path, *, create: bool) -> AsyncIterator[LocalBlobs]:
    """The blobs below `root`, which is made first where `create` is true.

    Raises: RootMismatch when the folder does not exist and may not be made, BlobsUnavailable.
    """
    with mapped(root):
        if create and not is_there(root):
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(FOLDER_MODE)  # whatever the umask
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise RootMismatch(f"The storage root {root} does not exist. Is a disk not mounted?") from error
    blobs = LocalBlobs(Root(root, fd))
    try:
        yield blobs
    finally:
        blobs.close()


def _read(_key: str, fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def _append(_key: str, staged: Staged, chunk: bytes) -> int:
    _write(staged, chunk)
    return len(chunk)


def _write(staged: Staged, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(staged.fd, rest) :]


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _next_page(found: Iterator[Sequence[str]]) -> Sequence[str]:
    page: list[str] = []
    for keys_of_folder in found:
        page += keys_of_folder
        if len(page) >= _KEYS_A_PAGE:
            break
    return page


def _seen(folder: int, key: str) -> BlobInfo | Existence:
    """What lies under the last name of `key` in its open folder; never what a link there points to."""
    try:
        name = spelled(folder, key.rpartition("/")[2], key)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return Existence.MISSING
    except OSError:
        return Existence.UNKNOWN
    return _info_of(key, status) if stat.S_ISREG(status.st_mode) else Existence.UNKNOWN


def _info_of(key: str, status: os.stat_result) -> BlobInfo:
    changed_at = max(status.st_mtime, status.st_ctime)  # a rename and `cp -p` keep an old mtime
    return BlobInfo(key, status.st_size, changed_at, f"{status.st_dev}:{status.st_ino}", status.st_mtime_ns)


async def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread and return its result; its errors become this package's."""
    subject = args[0] if args and isinstance(args[0], str) else "a staged file"
    with mapped(subject):
        return await in_thread(function, *args, **kwargs)
