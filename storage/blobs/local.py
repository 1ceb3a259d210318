"""Blobs as files below one folder: nothing outside it, whatever the key or a link in it says."""

import errno
import fcntl
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from itertools import count as counter
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import ParamSpec, TypeVar
from uuid import uuid4

import aiofiles
import orjson

from storage import keys
from storage.blobs import BlobInfo, Existence, Source, Space, Staged
from storage.blobs.folders import DIRECTORY, Run, runs
from storage.errors import (
    NO_ROOM,
    BlobNotFound,
    BlobRefused,
    BlobsUnavailable,
    KeyRefused,
    RootMismatch,
    StorageError,
    StorageFull,
)
from storage.threads import in_thread, in_thread_or_undo

P = ParamSpec("P")
T = TypeVar("T")

_KEYS_A_PAGE = 5000
_FILE_MODE = 0o644  # the web server that serves variants is another user
_FOLDER_MODE = 0o755
_PROBE_BYTES = 64 * 1024
_NOT_A_FILE = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMLINK}


class LocalBlobs:
    """Blobs below `root`, published atomically; hold it through `open_local`."""

    def __init__(self, root: Path, root_fd: int) -> None:
        self.root = root
        self._root_fd = root_fd
        self._bench: str | None = None
        self._bench_fd = -1
        self._bench_lock = Lock()
        self._numbers = counter()

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Source]:
        with _mapped(key):
            fd = await in_thread_or_undo(os.close, partial(self._open_file, key))
        try:
            facts = os.fstat(fd)
            yield Source(fd, facts.st_size, _stamp(facts))
        finally:
            os.close(fd)

    async def get(self, key: str) -> bytes:
        async with self.open(key) as source:
            with _mapped(key):
                # A read that outlives a cancellation harms nobody; writes go through `_call`, which waits.
                async with aiofiles.open(source.fd, "rb", closefd=False) as file:
                    return await file.read()

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        async with self.stage(1) as [staged]:
            size = 0
            with _mapped(key):
                async for chunk in chunks:
                    size += await _call(_append, key, staged, chunk)
            await self.publish([(staged, key)])
        return size

    @asynccontextmanager
    async def stage(self, count: int) -> AsyncIterator[Sequence[Staged]]:
        with _mapped("a staged file"):
            staged = await in_thread_or_undo(self._unstage, partial(self._stage, count))
        try:
            yield staged
        finally:
            await _call(self._unstage, staged)

    async def publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        await _call(self._publish, files)

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        await _call(self._store, contents)

    async def delete(self, key: str) -> None:
        await _call(self._delete, key)

    async def move(self, key: str, to: str, *, replace: bool = True) -> None:
        await _call(self._move, key, to, replace=replace)

    async def exists(self, key: str) -> Existence:
        try:
            await _call(self._open_and_close, key)
        except BlobNotFound:
            return Existence.MISSING
        except KeyRefused:
            raise
        except StorageError:
            return Existence.UNKNOWN
        return Existence.PRESENT

    async def info(self, key: str) -> BlobInfo:
        return await _call(self._info, key)

    async def look(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        return await _call(self._look, keys)

    async def keys(self, prefix: str, after: str = "") -> AsyncGenerator[Sequence[str], None]:
        with _mapped(prefix), closing(self._runs(prefix, after)) as found:
            while page := await in_thread(_take_keys, found):
                yield page

    async def list(self, prefix: str, after: str = "") -> AsyncGenerator[BlobInfo, None]:
        with _mapped(prefix), closing(self._runs(prefix, after)) as found:
            infos = _infos(found)
            while page := await in_thread(_take, infos, 500):
                for info in page:
                    yield info

    # -- folders and names, each opened relative to the one before and never through a link

    @contextmanager
    def _folder(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        fd = os.dup(self._root_fd)
        try:
            for part in parts:
                deeper = _enter(fd, part, create=create)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def _open_file(self, key: str) -> int:
        *folders, name = keys.segments(key)
        with self._folder(folders) as folder:
            # O_NONBLOCK: a pipe under an upload's name must not hang its reader
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(name, flags, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BlobRefused(f"{key} is not a regular file")
        return fd

    def _open_and_close(self, key: str) -> None:
        os.close(self._open_file(key))

    def _info(self, key: str) -> BlobInfo:
        fd = self._open_file(key)
        try:
            return _info_of(key, os.fstat(fd))
        finally:
            os.close(fd)

    def _delete(self, key: str) -> None:
        *folders, name = keys.segments(key)
        with suppress(FileNotFoundError), self._folder(folders) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        self._prune(folders)

    def _prune(self, folders: Sequence[str]) -> None:
        """Remove these folders of the trash as far as they are empty; others stay, they fill again."""
        if folders[:1] != [keys.TRASH]:
            return
        for depth in range(len(folders) - 1, 0, -1):
            try:
                with self._folder(folders[:depth]) as parent:
                    os.rmdir(folders[depth], dir_fd=parent)
            except OSError:
                return  # something is in it, or it has gone

    def _move(self, key: str, to: str, *, replace: bool) -> None:
        *folders, name = keys.segments(key)
        *target_folders, target = keys.segments(to)
        with suppress(FileNotFoundError), self._folder(folders) as here:
            facts = os.stat(name, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISREG(facts.st_mode):  # a folder would take everything in it along
                raise BlobRefused(f"{key} is not a regular file")
            with self._folder(target_folders, create=True) as there:
                if replace:
                    os.rename(name, target, src_dir_fd=here, dst_dir_fd=there)
                elif not _rename_aside(name, target, here, there):
                    return
                os.fsync(there)
            os.fsync(here)
        self._prune(folders)

    def _runs(self, prefix: str, after: str) -> Generator[Run, None, None]:
        parts = keys.segments(prefix)

        def below() -> Generator[Run, None, None]:
            with suppress(FileNotFoundError), self._folder(parts) as folder:
                yield from runs(folder, prefix, after)

        return below()

    def _look(self, wanted: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        for key in wanted:
            keys.segments(key)
        found: dict[str, BlobInfo | Existence] = {}
        for path, group in groupby(wanted, key=lambda key: key.rpartition("/")[0]):
            found |= self._look_into(path, list(group))
        return found

    def _look_into(self, path: str, wanted: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        try:
            with self._folder(path.split("/") if path else []) as folder:
                return {key: _seen(folder, key) for key in wanted}
        except FileNotFoundError:
            return dict.fromkeys(wanted, Existence.MISSING)
        except OSError:
            return dict.fromkeys(wanted, Existence.UNKNOWN)

    # -- staging: a folder for each process, locked by it, so that others can tell when it has died

    def occupy_staging(self) -> None:
        """Take a staging folder of one's own and remove those of processes that died."""
        with _mapped(keys.STAGING), self._folder([keys.STAGING], create=True) as staging:
            for name in os.listdir(staging):
                _remove_if_abandoned(staging, name)
            while self._bench is None:
                self._bench, self._bench_fd = _new_bench(staging)

    def leave_staging(self) -> None:
        """Give the staging folder back."""
        if self._bench is None:
            return
        with self._folder([keys.STAGING]) as staging:
            _remove_folder(staging, self._bench)
        os.close(self._bench_fd)
        self._bench = None

    def _stage(self, count: int) -> Sequence[Staged]:
        with self._bench_lock:
            if self._bench is not None and os.fstat(self._bench_fd).st_nlink == 0:
                os.close(self._bench_fd)  # somebody has cleared staging away under us
                self._bench = None
            if self._bench is None:
                self.occupy_staging()
        staged = []
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            for _ in range(count):
                name = f"{next(self._numbers)}"
                staged.append(Staged(os.open(name, flags, 0o600, dir_fd=self._bench_fd), name))
        except OSError:
            self._unstage(staged)
            raise
        return staged

    def _unstage(self, staged: Sequence[Staged]) -> None:
        for file in staged:
            os.close(file.fd)
            with suppress(FileNotFoundError):
                os.unlink(file.name, dir_fd=self._bench_fd)

    def _store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        staged = self._stage(len(contents))
        try:
            for file, (_, content) in zip(staged, contents, strict=True):
                _write(file, content)
            self._publish([(file, key) for file, (key, _) in zip(staged, contents, strict=True)])
        finally:
            self._unstage(staged)

    def _publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        places = [keys.segments(key) for _, key in files]
        for staged, _ in files:
            self._recognise(staged)
            os.fchmod(staged.fd, _FILE_MODE)
            os.fsync(staged.fd)
        for (staged, _), (*folders, name) in zip(files, places, strict=True):
            with self._folder(folders, create=True) as folder:
                os.rename(staged.name, name, src_dir_fd=self._bench_fd, dst_dir_fd=folder)
                os.fsync(folder)

    def _recognise(self, staged: Staged) -> None:
        """Whoever tidies the storage may have put something else in the file's place."""
        try:
            there = os.stat(staged.name, dir_fd=self._bench_fd, follow_symlinks=False)
        except FileNotFoundError as error:
            raise BlobsUnavailable("a staged file is gone") from error
        ours = os.fstat(staged.fd)
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino) or not stat.S_ISREG(ours.st_mode):
            raise BlobsUnavailable("there is another file in the place of a staged one")

    async def probe(self) -> None:
        """Write and remove a little, as a test of the storage. Raises: StorageFull, BlobsUnavailable."""
        async with self.stage(1) as [staged]:
            await _call(self._fill, staged)

    def _fill(self, staged: Staged) -> None:
        os.write(staged.fd, bytes(_PROBE_BYTES))
        os.fsync(staged.fd)

    async def space(self) -> Space:
        """How much room the file system of the root has for this user. Raises: BlobsUnavailable."""
        facts = await _call(os.fstatvfs, self._root_fd)
        block = facts.f_frsize
        free_files = facts.f_favail if facts.f_files else None  # some make room for files as they come
        return Space(facts.f_blocks * block, facts.f_bavail * block, free_files)

    # -- the root's identity

    def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        """Make sure that this root belongs to the catalog `catalog_id`; a new pair is married here.

        Raises: RootMismatch when the marker is another catalog's, or missing where it must be,
        BlobsUnavailable.
        """
        with _mapped(keys.MARKER):
            found = self._read_marker()
            if found is None and catalog_is_new:
                if not (self.root / keys.VARIANTS).exists():
                    self._write_marker(catalog_id)
                found = self._read_marker()  # where there are variants now, another worker was first
        if found is None:
            raise RootMismatch(
                f"{self.root} has no {keys.MARKER}, but its catalog has described a root before, or there "
                "are variants already. Is a disk not mounted, or the catalog another one's? "
                "`media rebuild` makes a new catalog for an existing root."
            )
        if found != catalog_id:
            raise RootMismatch(
                f"{self.root} belongs to the catalog {found}, but the catalog in use is {catalog_id}. "
                "Check MEDIA_STORAGE_URL and MEDIA_CATALOG_URL: one of them points to another installation. "
                "If this root's catalog is lost, `media rebuild` makes a new one."
            )

    def rebind(self, catalog_id: str) -> None:
        """Give this root to the catalog `catalog_id`, whatever it belonged to."""
        aside = self._marker_aside(catalog_id)
        aside.rename(self.root / keys.MARKER)
        os.fsync(self._root_fd)

    def _read_marker(self) -> str | None:
        try:
            return str(orjson.loads((self.root / keys.MARKER).read_bytes())["catalog"])
        except FileNotFoundError:
            return None
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise RootMismatch(f"{self.root / keys.MARKER} is damaged: {error}") from error

    def _write_marker(self, catalog_id: str) -> None:
        # Written aside and linked, because a file made with O_EXCL can be read while it is still empty.
        aside = self._marker_aside(catalog_id)
        try:
            with suppress(FileExistsError):
                os.link(aside, self.root / keys.MARKER)
        finally:
            aside.unlink()
        os.fsync(self._root_fd)

    def _marker_aside(self, catalog_id: str) -> Path:
        aside = self.root / f"{keys.MARKER}.{uuid4().hex}"
        with aside.open("wb") as file:
            file.write(orjson.dumps({"catalog": catalog_id, "version": 1}))
            os.fchmod(file.fileno(), _FILE_MODE)
            file.flush()
            os.fsync(file.fileno())
        return aside


@asynccontextmanager
async def open_local(root: Path, *, create: bool) -> AsyncIterator[LocalBlobs]:
    """The blobs below `root`, which is made first where `create` is true.

    Raises: RootMismatch when the folder does not exist and may not be made, BlobsUnavailable.
    """
    with _mapped(str(root)):
        if create and not root.exists():
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(_FOLDER_MODE)  # whatever the umask
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise RootMismatch(f"The storage root {root} does not exist. Is a disk not mounted?") from error
    blobs = LocalBlobs(root, fd)
    try:
        yield blobs
    finally:
        with suppress(OSError, StorageError):
            blobs.leave_staging()
        os.close(fd)


def _enter(folder: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, DIRECTORY, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
    fd = os.open(name, DIRECTORY, dir_fd=folder)
    os.fchmod(fd, _FOLDER_MODE)
    os.fsync(folder)
    return fd


def _new_bench(staging: int) -> tuple[str | None, int]:
    name = f"w{uuid4().hex}"
    try:
        fd = _enter(staging, name, create=True)
    except FileNotFoundError:  # another process took it for abandoned before it was opened
        return None, -1
    fcntl.flock(fd, fcntl.LOCK_EX)
    if os.fstat(fd).st_nlink == 0:  # or before it was locked
        os.close(fd)
        return None, -1
    return name, fd


def _remove_if_abandoned(staging: int, name: str) -> None:
    if not name.startswith("w"):
        return
    try:
        fd = _enter(staging, name, create=False)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_folder(staging, name)
    except (BlockingIOError, FileNotFoundError):
        pass  # its owner lives, or a neighbour that starts too has removed it
    finally:
        os.close(fd)


def _remove_folder(parent: int, name: str) -> None:
    fd = _enter(parent, name, create=False)
    try:
        for entry in os.listdir(fd):
            os.unlink(entry, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _rename_aside(name: str, target: str, here: int, there: int) -> bool:
    """Give a file another name, unless another is under it already; gives whether it was done."""
    try:
        os.link(name, target, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    except FileExistsError:
        ours, other = (
            os.stat(one, dir_fd=at, follow_symlinks=False) for one, at in ((name, here), (target, there))
        )
        if (ours.st_dev, ours.st_ino) != (other.st_dev, other.st_ino):
            return False
    os.fsync(there)  # the new name is durable before the old one goes
    os.unlink(name, dir_fd=here)
    return True


def _append(_key: str, staged: Staged, chunk: bytes) -> int:
    _write(staged, chunk)
    return len(chunk)


def _write(staged: Staged, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(staged.fd, rest) :]


def _stamp(facts: os.stat_result) -> str:
    return f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"


def _take(infos: Iterator[BlobInfo], count: int) -> list[BlobInfo]:
    return [info for _, info in zip(range(count), infos, strict=False)]


def _take_keys(found: Iterator[Run]) -> list[str]:
    page: list[str] = []
    for run in found:
        path = f"{run.path}/"
        page += [path + name for name in run.names]
        if len(page) >= _KEYS_A_PAGE:
            break
    return page


def _infos(found: Iterator[Run]) -> Iterator[BlobInfo]:
    for run in found:
        for name in run.names:
            info = _seen(run.folder, f"{run.path}/{name}")
            if isinstance(info, BlobInfo):
                yield info


def _seen(folder: int, key: str) -> BlobInfo | Existence:
    """What lies under the last name of `key` in its open folder; never what a link there points to."""
    try:
        facts = os.stat(key.rpartition("/")[2], dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return Existence.MISSING
    except OSError:
        return Existence.UNKNOWN
    return _info_of(key, facts) if stat.S_ISREG(facts.st_mode) else Existence.UNKNOWN


def _info_of(key: str, facts: os.stat_result) -> BlobInfo:
    changed_at = max(facts.st_mtime, facts.st_ctime)  # a rename and `cp -p` keep an old mtime
    return BlobInfo(key, facts.st_size, changed_at, f"{facts.st_dev}:{facts.st_ino}")


@contextmanager
def _mapped(key: object) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BlobNotFound(f"there is no {key}") from error
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFull(f"no room left on the storage: {error.strerror}") from error
        if error.errno in _NOT_A_FILE:
            raise BlobRefused(f"{key} is not a regular file below the root") from error
        raise BlobsUnavailable(f"the storage failed at {key}: {error}") from error


async def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` gives `in_thread`, its errors told in this module's words."""
    subject = args[0] if args and isinstance(args[0], str) else "a staged file"
    with _mapped(subject):
        return await in_thread(function, *args, **kwargs)
