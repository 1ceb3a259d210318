"""Files of the parent's: the source, read once, whole and never by mmap; and the one for variants."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from pipelines.decoder.wire import MAX_FRAME

_CHUNK = 1024 * 1024
_LENGTH_BYTES = 4
ANSWER_BYTES = 128 * 1024  # for a picture's answer, before its variants; the parent has the same number


class FileError(Exception):
    """The system failed at a file that the parent gave, with the errno `number`; no picture can cause it."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@contextmanager
def _as_file_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(error.errno or 0) from error


def read_once(descriptor: int, size: int) -> bytearray | None:
    """Return the file's bytes if there are exactly `size` of them, else None: it changed meanwhile."""
    data = bytearray(size + 1)  # one more than expected, to see that it grew
    view = memoryview(data)
    offset = 0
    with _as_file_error():
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


class Output:
    """The file that the parent gave for variants, emptied, and filled with one behind the other.

    What lies before `start` is not for variants.
    """

    def __init__(self, descriptor: int, start: int = 0) -> None:
        self._descriptor = descriptor
        self._start = self._end = start
        os.ftruncate(descriptor, 0)

    @property
    def size(self) -> int:
        """The bytes of its variants."""
        return self._end - self._start

    def add(self, content: bytes) -> int:
        """Append a variant and return where it begins."""
        began, view = self._end, memoryview(content)
        with _as_file_error():
            while view:
                count = os.pwrite(self._descriptor, view, self._end)
                self._end, view = self._end + count, view[count:]
        return began


def write_answer(descriptor: int, probed: dict[str, Any] | None, answer: dict[str, Any]) -> None:
    """Write what a header says and the answer before a picture's variants, and then that both are there."""
    body = orjson.dumps({"probed": probed, "answer": answer})
    if len(body) > MAX_FRAME:
        raise ValueError(f"an answer of {len(body)} bytes is longer than {MAX_FRAME}")
    os.pwrite(descriptor, body, _LENGTH_BYTES)
    os.pwrite(descriptor, len(body).to_bytes(_LENGTH_BYTES), 0)
