"""Writing below the root: contents are durable before they are visible; empty folders of the trash go."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from storage import keys
from storage.blobs import BlobInfo
from storage.blobs.ext4 import Ext4
from storage.blobs.moving import Mover
from storage.blobs.open_folders import FolderPath, OpenFolders
from storage.blobs.reading import info_of
from storage.blobs.root import Root
from storage.blobs.staging import Staged, Staging
from storage.blobs.syscalls import begin_flush, grant, same_file, sync_folder
from storage.blobs.whole_flush import WholeFlush
from storage.errors import BlobPinned, BlobsUnavailable

FILE_MODE = 0o644  # the web server that serves variants is another user

Contents = Sequence[tuple[str, bytes]]
"""What somebody stores: each content with its key."""


@dataclass
class _Publication:
    """The files of one caller on their way to their names, and why they do not get there, if so."""

    contents: Contents
    staged: Sequence[Staged] = ()
    places: Sequence[Sequence[str]] = ()
    devices: set[int] = field(default_factory=set)
    error: Exception | None = None


class Writer:
    """Changes what lies below `root`."""

    def __init__(self, root: Root, staging: Staging, file_mode: int = FILE_MODE) -> None:
        self._root = root
        self._staging = staging
        self._file_mode = file_mode
        self._mover = Mover(root, staging)
        self._ext4 = Ext4()

    def store(self, contents: Contents) -> None:
        """Store each content under its key, as `Store` says."""
        [error] = self.store_each([contents])
        if error is not None:
            raise error

    def store_each(
        self, group: Sequence[Contents], whole: WholeFlush | None = None
    ) -> Sequence[Exception | None]:
        """Store the contents of several callers together; returns for each what went wrong, if it did.

        All files and all new folders are durable before any file gets its name. What fails for one caller
        keeps no other from its names, unless it is a flush of names: its error is told once, to whoever
        waits, although the names of all others may be lost, too. With `whole`, file systems may be flushed as
        a whole.
        """
        publications = [_Publication(contents) for contents in group]
        try:
            _each(publications, self._stage)
            self._publish(publications, whole)
        finally:
            for one in publications:
                try:
                    self._staging.drop(one.staged)
                except OSError as error:
                    one.error = one.error or error
        return [one.error for one in publications]

    def publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        """Give staged files their keys: durable first, then visible, then the folder durable.

        Raises: BlobsUnavailable when there is another file in the place of a staged one.
        """
        places = [keys.segments(key) for _, key in files]
        one = _Publication([], [staged for staged, _ in files], places)
        self._publish([one])
        if one.error is not None:
            raise one.error

    def _stage(self, one: _Publication) -> None:
        one.places = [keys.segments(key) for key, _ in one.contents]
        area = one.places[0][0] if one.places else keys.STAGING
        one.staged = self._staging.make(len(one.places), area, self._file_mode)
        for file, (_, content) in zip(one.staged, one.contents, strict=True):
            write(file, content)

    def _publish(self, publications: Sequence[_Publication], whole: WholeFlush | None = None) -> None:
        _each(publications, self._prepare)
        with closing(OpenFolders(self._root)) as folders:
            if whole is None or not self._publish_together(publications, folders, whole):
                self._publish_in_turns(publications, folders)
        with _shared(publications):
            for folder in self._staging.folders_of(file for one in publications for file in one.staged):
                self._ext4.check_names(folder)

    def _prepare(self, one: _Publication) -> None:
        for staged in one.staged:
            one.devices.add(self._recognise(staged))
            grant(staged.fd, self._file_mode)

    def _recognise(self, staged: Staged) -> int:
        """Returns the file's device. Whoever tidies the storage may have put something else in its place."""
        try:
            there = os.stat(staged.name, dir_fd=self._staging.folder_of(staged), follow_symlinks=False)
        except FileNotFoundError as error:
            raise BlobsUnavailable("a staged file is gone") from error
        if not same_file(there, os.fstat(staged.fd)):
            raise BlobsUnavailable("there is another file in the place of a staged one")
        return there.st_dev

    def _publish_in_turns(self, publications: Sequence[_Publication], folders: OpenFolders) -> None:
        """Flush file by file and folder by folder."""
        _each(publications, _begin_flush)
        _each(publications, _flush)
        _each(publications, self._check_bytes)
        _each(publications, partial(_make_folders, folders))
        with _shared(publications):
            folders.sync_new()
        for turn in range(max(len(one.staged) for one in publications)):
            with _shared(publications):
                folders.sync(self._name(turn, publications, folders))

    def _publish_together(
        self, publications: Sequence[_Publication], folders: OpenFolders, whole: WholeFlush
    ) -> bool:
        """Flush the file system twice; returns False where that is not to be done, and was not."""
        well = [one for one in publications if one.error is None]
        devices = {device for one in well for device in one.devices}
        written = sum(len(content) for one in well for _, content in one.contents)
        if len(devices) != 1 or not whole.is_worth(len(well)):
            return False
        [device] = devices
        if not whole.may_flush(device, written):
            return False
        # A lost write is told once for each time a file was opened: this one was before any was written here,
        # and nobody else asks through it.
        here = next(file.fd for one in well for file in one.staged)
        _each(well, _begin_flush)
        _each(well, partial(_make_folders, folders))
        try:
            whole.flush(here)
        except OSError:
            return False  # each file says whether it is the one
        _each(well, self._check_bytes)
        with _shared(well):
            folders.sync_new(durable=device)
        turns = range(max(len(one.staged) for one in well))
        with _shared(well):
            named = {folder for turn in turns for folder in self._name(turn, well, folders)}
            whole.flush(here)
            folders.sync(named, durable=device)
        return True

    def _check_bytes(self, one: _Publication) -> None:
        for staged in one.staged:
            self._ext4.check_bytes(staged.fd)

    def _name(self, turn: int, publications: Sequence[_Publication], folders: OpenFolders) -> set[FolderPath]:
        """Give each caller's file of that number its name; returns the folders that have new names."""
        named: set[FolderPath] = set()

        def name(one: _Publication) -> None:
            if turn < len(one.staged):
                self._rename(one.staged[turn], one.places[turn], folders)
                named.add(tuple(one.places[turn][:-1]))

        _each(publications, name)
        return named

    def _rename(self, staged: Staged, place: Sequence[str], folders: OpenFolders) -> None:
        *path, name = place
        try:
            self._mover.publish(staged, place[0], name, folders.enter(tuple(path)))
        except FileNotFoundError:
            self._recognise(staged)
            # Whoever tidies the storage has removed the folder, which was empty.
            try:
                with self._root.folder(path, create=True) as folder:
                    self._mover.publish(staged, place[0], name, folder)
                    sync_folder(folder)
            except FileNotFoundError as error:
                raise BlobsUnavailable(f"{'/'.join(path)} is removed again and again") from error

    def delete(self, key: str) -> None:
        """Remove the file under `key`, if there is one."""
        *folders, name = keys.segments(key)
        with suppress(FileNotFoundError), self._root.folder(folders) as folder:
            os.unlink(name, dir_fd=folder)
            sync_folder(folder)
        self._prune(folders)

    def move(self, key: str, to: str, *, replace: bool) -> BlobInfo | None:
        """Give the file under `key` another one, as `Move` says."""
        parts, target = keys.segments(key), keys.segments(to)
        with suppress(FileNotFoundError):
            try:
                moved = self._mover.move(parts, target, replace=replace)
            except BlobPinned:
                self._prune(target[:-1])
                raise
            self._prune(parts[:-1])
            return info_of(to, moved) if moved else None
        return None

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


def _each(publications: Sequence[_Publication], step: Callable[[_Publication], object]) -> None:
    """Take a step of each publication that has not failed; one that fails now is out."""
    for one in publications:
        if one.error is None:
            try:
                step(one)
            except Exception as error:  # its caller's alone
                one.error = error


@contextmanager
def _shared(publications: Sequence[_Publication]) -> Iterator[None]:
    """What fails in the body fails for all of them."""
    try:
        yield
    except OSError as error:
        for one in publications:
            one.error = one.error or error


def _begin_flush(one: _Publication) -> None:
    for staged in one.staged:
        begin_flush(staged.fd)


def _flush(one: _Publication) -> None:
    for staged in one.staged:
        os.fsync(staged.fd)


def _make_folders(folders: OpenFolders, one: _Publication) -> None:
    for place in one.places:
        folders.enter(tuple(place[:-1]), create=True)


def write(staged: Staged, content: bytes) -> None:
    """Write all of `content` at the end of a staged file."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(staged.fd, rest) :]
