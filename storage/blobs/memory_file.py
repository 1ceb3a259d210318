"""A file in memory, whose readers cannot write it: what a child gets of a blob that is no file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryFile:
    """A file without a name; `fd` can only be read."""

    fd: int
    _writable: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self._writable).st_size

    def append(self, content: bytes | memoryview) -> None:
        """Write `content` at its end."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._writable, rest) :]

    def empty(self) -> None:
        """Return its memory."""
        os.ftruncate(self._writable, 0)
        os.lseek(self._writable, 0, os.SEEK_SET)


@contextmanager
def memory_file() -> Iterator[MemoryFile]:
    """An empty one, which is gone at the end. Raises: OSError."""
    writable = os.memfd_create("blob")
    try:
        fd = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield MemoryFile(fd, writable)
        finally:
            os.close(fd)
    finally:
        os.close(writable)
