"""Writing below the root: contents are durable before they are visible; empty folders of the trash go."""

import os
from collections.abc import Sequence
from contextlib import suppress

from storage import keys
from storage.blobs import BlobInfo
from storage.blobs.moving import Mover
from storage.blobs.reading import info_of
from storage.blobs.root import Root
from storage.blobs.staging import Staged, Staging
from storage.blobs.syscalls import grant, same_file, sync_folder
from storage.errors import BlobPinned, BlobsUnavailable

FILE_MODE = 0o644  # the web server that serves variants is another user


class Writer:
    """Changes what lies below `root`."""

    def __init__(self, root: Root, staging: Staging, file_mode: int = FILE_MODE) -> None:
        self._root = root
        self._staging = staging
        self._file_mode = file_mode
        self._mover = Mover(root, staging)

    def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        """Store each content under its key, as `Store` says."""
        area = contents[0][0].partition("/")[0] if contents else keys.STAGING
        staged = self._staging.make(len(contents), area)
        try:
            for file, (_, content) in zip(staged, contents, strict=True):
                write(file, content)
            self.publish([(file, key) for file, (key, _) in zip(staged, contents, strict=True)])
        finally:
            self._staging.drop(staged)

    def publish(self, files: Sequence[tuple[Staged, str]]) -> None:
        """Give staged files their keys: durable first, then visible, then the folder durable.

        Raises: BlobsUnavailable when there is another file in the place of a staged one.
        """
        places = [keys.segments(key) for _, key in files]
        for staged, _ in files:
            self._recognise(staged)
            grant(staged.fd, self._file_mode)
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


def write(staged: Staged, content: bytes) -> None:
    """Write all of `content` at the end of a staged file."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(staged.fd, rest) :]
