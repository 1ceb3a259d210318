"""Contents that come in chunks, where their size is not known before."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator


class TakenChunks:
    """A content of which the first chunks are taken, until it is known how it is to be stored."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.bytes = 0
        """How many have been taken or read."""
        self._taken: deque[bytes] = deque()
        self._rest = chunks

    async def take(self, size: int) -> bool:
        """Take chunks until there are `size` bytes; False: the content ended before."""
        while self.bytes < size:
            chunk = await anext(self._rest, None)
            if chunk is None:
                return False
            self._taken.append(chunk)
            self.bytes += len(chunk)
        return True

    def joined(self) -> bytes:
        """What was taken, in one piece, and is kept no more."""
        content = b"".join(self._taken)
        self._taken.clear()
        return content

    async def read(self) -> AsyncGenerator[bytes, None]:
        """All of it, in order; what was taken is kept no longer than until it is read."""
        while self._taken:
            yield self._taken.popleft()
        async for chunk in self._rest:
            self.bytes += len(chunk)
            yield chunk
