"""Blobs as files below one folder: nothing outside it, whatever the key or a link below it says."""

import os
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from storage import keys
from storage.blobs import BlobInfo, BlobPart, Existence, Source, Space, stat_listed
from storage.blobs.linking import link_file, remove_unfinished
from storage.blobs.mapping import mapped
from storage.blobs.open_folders import OpenFolders
from storage.blobs.reading import (
    info_of,
    list_files,
    list_folders,
    open_file,
    read_part,
    stamp_at,
    stamp_of,
    stat_files,
)
from storage.blobs.root import FOLDER_MODE, Root
from storage.blobs.staging import Staged, Staging
from storage.blobs.trial import find_lacks
from storage.blobs.whole_flush import WholeFlush
from storage.blobs.writing import FILE_MODE, Contents, Writer, write
from storage.errors import BlobRefused, RootMismatch, StorageError
from storage.paths import is_there
from storage.threads import Grouped, in_thread, in_thread_or_undo

P = ParamSpec("P")
T = TypeVar("T")

_KEYS_A_PAGE = 5000
_PART = 1024 * 1024  # bytes that are read at once
_STORED_TOGETHER = 48  # files; each is open, with its folder and, where that is new, the folder around it
_LOOKED_AT_TOGETHER = 64  # callers
_PROBE_BYTES = 64 * 1024
_PROBE = f"{keys.VARIANTS}/{keys.HIDDEN}probe"


_Opened = tuple[int, os.stat_result]


class Linker(Protocol):
    async def __call__(self, key: str, to: str | None = None) -> int | None:
        """Link the file under `key` as `to`; returns its bytes, None where it cannot be linked."""


class _Stores:
    """Stores what comes together at once where that is of use, and otherwise each in a thread of its own."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._whole = WholeFlush()
        self._grouped = Grouped[Contents, None](self._store_each, _STORED_TOGETHER, size=len)

    def _store_each(self, group: Sequence[Contents]) -> Sequence[Exception | None]:
        return self._writer.store_each(group, self._whole)

    async def store(self, contents: Contents) -> None:
        if self._whole.is_worth_trying:
            await self._grouped(contents)
        else:
            await in_thread(self._writer.store, contents)


class _Looks:
    """Opens and compares files, those of one moment in one thread."""

    def __init__(self, root: Root) -> None:
        opened, stamped = partial(_each, root, _open_file), partial(_each, root, stamp_at)
        self.open = Grouped[str, _Opened](opened, _LOOKED_AT_TOGETHER, overlap=True, undo=_close)
        self.stamp = Grouped[str, str](stamped, _LOOKED_AT_TOGETHER, overlap=True)


class LocalBlobs:
    """Blobs below `root`, published atomically; hold it through `open_local`."""

    collects = False

    def __init__(self, root: Root, file_mode: int = FILE_MODE) -> None:
        self._root = root
        self._staging = Staging(root)
        self._writer = Writer(root, self._staging, file_mode)
        # By area, so that a volume that hangs holds up no other.
        self._looks = defaultdict[str, _Looks](lambda: _Looks(root))
        self._stores = defaultdict[str, _Stores](lambda: _Stores(self._writer))

    @property
    def root(self) -> Path:
        """The path of the root."""
        return self._root.path

    @asynccontextmanager
    async def open(self, key: str, *, fetched: bool = True) -> AsyncIterator[Source]:
        with mapped(key):
            fd, status = await self._looks[_area_of(key)].open(key)
        try:
            yield Source(fd, status.st_size, stamp_of(status), info_of(key, status))
        finally:
            os.close(fd)

    async def stamp(self, key: str) -> str:
        with mapped(key):
            return await self._looks[_area_of(key)].stamp(key)

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        async with self.open(key) as source:
            offset = 0
            while offset < source.bytes:
                part = await _call(_read_part, key, source.fd, offset)
                if not part:
                    raise BlobRefused(f"{key} ended after {offset} of {source.bytes} bytes")
                yield part
                offset += len(part)

    async def read_part(self, key: str, start: int, most: int, stamp: str = "") -> BlobPart:
        return await _call(read_part, key, self._root, start, most, stamp)

    async def get(self, key: str) -> bytes:
        async with self.open(key) as source:
            return await _call(_read, key, source.fd)

    async def put(self, key: str, chunks: AsyncIterator[bytes], size: int | None = None) -> int:
        async with self._stage(1) as [staged]:
            count = 0
            with mapped(key):
                async for chunk in chunks:
                    count += await _call(_append, key, staged, chunk)
            await self._publish([(staged, key)])
        return count

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        with mapped("a staged file"):
            await self._stores[_area_of(contents[0][0]) if contents else ""].store(contents)

    def linker(self, source: "LocalBlobs") -> "Linker":
        """What gives this storage the file of `source` under a key, or here as `to`, as `link_file` says.

        Only one process may have such a thing for this storage at a time.
        """
        remove_unfinished(self._root)

        async def link(key: str, to: str | None = None) -> int | None:
            return await _call(_link, key, source._root, self._root, to or key)

        return link

    async def delete(self, key: str) -> None:
        await _call(self._writer.delete, key)

    async def move(self, key: str, to: str, *, replace: bool = True) -> BlobInfo | None:
        return await _call(self._writer.move, key, to, replace=replace)

    async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        return await _call(stat_files, self._root, keys)

    async def list(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[Sequence[str], None]:
        with mapped(prefix), closing(list_files(self._root, prefix, after, on_misnamed)) as found:
            while page := await in_thread(_next_page, found):
                yield page

    def list_infos(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[BlobInfo, None]:
        return stat_listed(self, prefix, after, on_misnamed)

    async def folders(self, prefix: str, start: str = "", *, proved: bool = True) -> Sequence[str]:
        return await _call(list_folders, prefix, self._root, start)

    # -- unfinished writes

    async def prepare(self) -> None:
        with mapped(keys.STAGING):
            await in_thread(self._staging.occupy)

    def close(self) -> None:
        """Remove the staging folders of this process, and let go of the root."""
        with suppress(OSError, StorageError):
            self._staging.leave()
        self._root.close()

    async def probe(self) -> None:
        """Publish and remove a little, as a test of the storage.

        Raises: RootMismatch, StorageFull, BlobsUnavailable.
        """
        await _call(self._probe)

    def _probe(self) -> None:
        self._root.check_identity()
        self._enter(keys.UPLOADS)
        self._writer.store([(_PROBE, bytes(_PROBE_BYTES))])
        self._writer.delete(_PROBE)
        self._root.remember_volumes()

    async def enter(self, area: str) -> None:
        await _call(self._enter, area)

    def _enter(self, area: str) -> None:
        with mapped(area), suppress(FileNotFoundError), self._root.folder([area]):
            pass

    async def find_lacks(self) -> Sequence[str]:
        await self.probe()  # which finds out where variants lie
        return await _call(find_lacks, self._root, self._staging)

    async def prove_listing(self) -> None:
        """A folder shows what is in it."""

    async def check_identity(self) -> None:
        """Raises: RootMismatch where the root is not the one that was bound (any more), BlobsUnavailable."""
        await _call(self._root.check_identity)

    async def space(self) -> Space:
        """How much room the file system of the root has for this user. Raises: BlobsUnavailable."""
        volume = await _call(os.fstatvfs, self._root.fd)
        block = volume.f_frsize
        free_files = volume.f_favail if volume.f_files else None  # some make room for files as they come
        used = (volume.f_blocks - volume.f_bfree) * block
        return Space(volume.f_blocks * block, volume.f_bavail * block, free_files, used)

    # -- staged files

    @asynccontextmanager
    async def _stage(self, count: int) -> AsyncIterator[Sequence[Staged]]:
        """`count` empty staged files, closed and removed at the end unless they were published."""
        with mapped("a staged file"):
            staged = await in_thread_or_undo(
                self._staging.drop, partial(self._staging.make, count, keys.STAGING)
            )
        try:
            yield staged
        finally:
            await _call(self._staging.drop, staged)

    async def _publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        """Give staged files their keys: durable first, then visible, then the folder durable.

        Raises: BlobsUnavailable when there is another file in the place of a staged one.
        """
        await _call(self._writer.publish, files)

    # -- the root's identity

    async def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        await in_thread(self._root.bind, catalog_id, catalog_is_new=catalog_is_new)

    async def catalog_id(self) -> str | None:
        return await in_thread(self._root.catalog_id)

    async def rebind(self, catalog_id: str) -> None:
        await in_thread(self._root.rebind, catalog_id)


@asynccontextmanager
async def open_local(root: Path, *, create: bool, private: bool = False) -> AsyncIterator[LocalBlobs]:
    """The blobs below `root`, which is made first where `create` is true.

    Whatever is made there is for all to read, or, where it is `private`, for its owner alone.

    Raises: RootMismatch when the folder does not exist and may not be made, BlobsUnavailable.
    """
    folder_mode, file_mode = (0o700, 0o600) if private else (FOLDER_MODE, FILE_MODE)
    with mapped(root):
        if create and not is_there(root):
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(folder_mode)  # whatever the umask
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise RootMismatch(f"The storage root {root} does not exist. Is a disk not mounted?") from error
    blobs = LocalBlobs(Root(root, fd, folder_mode), file_mode)
    try:
        yield blobs
    finally:
        blobs.close()


def _each(
    root: Root, look: Callable[[OpenFolders, str], T], wanted: Sequence[str]
) -> Sequence[T | Exception]:
    """What `look` finds at each of the keys, or raises; folders are opened once."""
    found: list[T | Exception] = []
    with closing(OpenFolders(root)) as folders:
        for key in wanted:
            try:
                found.append(look(folders, key))
            except Exception as error:  # its caller's alone
                found.append(error)
    return found


def _open_file(folders: OpenFolders, key: str) -> _Opened:
    return open_file(folders, key)


def _close(opened: _Opened) -> None:
    os.close(opened[0])


def _area_of(key: str) -> str:
    area = key.partition("/")[0]
    return area if area in keys.AREAS else ""


def _link(key: str, source: Root, target: Root, to: str) -> int | None:
    return link_file(source, target, key, to)


def _read(_key: str, fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def _read_part(_key: str, fd: int, offset: int) -> bytes:
    return os.pread(fd, _PART, offset)


def _append(_key: str, staged: Staged, chunk: bytes) -> int:
    write(staged, chunk)
    return len(chunk)


def _next_page(found: Iterator[Sequence[str]]) -> Sequence[str]:
    page: list[str] = []
    for keys_of_folder in found:
        page += keys_of_folder
        if len(page) >= _KEYS_A_PAGE:
            break
    return page


async def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread and return its result; its errors become this package's."""
    subject = args[0] if args and isinstance(args[0], str) else "a staged file"
    with mapped(subject):
        return await in_thread(function, *args, **kwargs)
