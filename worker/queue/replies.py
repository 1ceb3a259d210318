"""The largest reply of Redis that is read: an entry of any size must not fill a worker's memory."""

import re
from asyncio import StreamReader

from redis.exceptions import RedisError

from pipelines.formats import MIB

LARGEST_REPLY = 16 * MIB
_HEAD = 4096  # bytes of a reply that are kept: they name the first entry, wherever a reply is of entries
_FIRST_ID = re.compile(rb"\*2\r\n\$\d+\r\n(\d+-\d+)\r\n")
_LAST_ID = re.compile(rb"last-generated-id\r\n\$\d+\r\n(\d+-\d+)\r\n")


class ReplyTooLarge(RedisError):
    """A reply was larger than what is read of one; its connection is closed, the rest was not read."""

    def __init__(self, head: bytes) -> None:
        super().__init__("its reply is larger than what is read of one")
        self._head = head

    @property
    def first_id(self) -> str | None:
        """The ID of the first entry in the reply, which comes before the entry's fields."""
        return _found(_FIRST_ID, self._head)

    @property
    def last_generated_id(self) -> str | None:
        """The greatest ID in the answer of XINFO STREAM, which comes before the entries."""
        return _found(_LAST_ID, self._head)


def _found(pattern: re.Pattern[bytes], head: bytes) -> str | None:
    found = pattern.search(head)
    return found[1].decode() if found else None


class BoundedReader:
    """A stream reader as redis-py's parsers use it; `begin` a reply, then it gives `most` bytes of that."""

    def __init__(self, reader: StreamReader, most: int) -> None:
        self._reader = reader
        self._most = most
        self._count = 0
        self._head = b""

    def begin(self) -> None:
        """Count from here: what is read now is another reply, but for a few bytes read ahead."""
        self._count, self._head = 0, b""

    async def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes. Raises: ReplyTooLarge."""
        return self._counted(await self._reader.read(count))

    async def readexactly(self, count: int) -> bytes:
        """Read `count` bytes. Raises: ReplyTooLarge before it reads more than there may be."""
        if self._count + count > self._most:
            raise ReplyTooLarge(self._head)
        return self._counted(await self._reader.readexactly(count))

    async def readline(self) -> bytes:
        """Read a line. Raises: ReplyTooLarge."""
        return self._counted(await self._reader.readline())

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that was not read yet, nor the end, as far as the event loop knows."""
        has_come = len(self._reader._buffer)  # type: ignore[attr-defined]  # as redis-py asks it
        return not has_come and not self._reader.at_eof() and self._reader.exception() is None

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    def _counted(self, data: bytes) -> bytes:
        if len(self._head) < _HEAD:
            self._head += data[: _HEAD - len(self._head)]
        self._count += len(data)
        if self._count > self._most:
            raise ReplyTooLarge(self._head)
        return data
