"""Reading the source: once, whole, into memory, and never by mmap, so that it cannot change underneath."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK = 1024 * 1024


class Unwritable(Exception):
    """The system failed at a file that the parent gave, with the errno `number`; no picture can cause it."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(error.errno or 0) from error


def read_once(descriptor: int, size: int) -> bytearray | None:
    """Return the file's bytes if there are exactly `size` of them, else None: it changed meanwhile."""
    data = bytearray(size + 1)  # one more than expected, to see that it grew
    view = memoryview(data)
    offset = 0
    with _told():
        while offset <= size:
            count = os.preadv(descriptor, [view[offset : offset + _CHUNK]], offset)
            if count == 0:
                break
            offset += count
    view.release()
    if offset != size:
        return None
    del data[size:]
    return data


def sha256(data: bytearray) -> str:
    """Return the digest of the bytes that will be decoded, as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def write_all(descriptor: int, data: bytes) -> None:
    """Make `data` the whole content of the staging file."""
    view = memoryview(data)
    offset = 0
    with _told():
        os.ftruncate(descriptor, 0)
        while offset < len(data):
            offset += os.pwrite(descriptor, view[offset:], offset)
