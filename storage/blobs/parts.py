"""Contents that come in chunks, where their size is not known before."""

from collections.abc import AsyncGenerator, AsyncIterator


async def first_of(chunks: AsyncIterator[bytes], size: int) -> bytes:
    """The first chunks, until they have `size` bytes or there are no more."""
    taken, count = [], 0
    async for chunk in chunks:
        taken.append(chunk)
        count += len(chunk)
        if count >= size:
            break
    return b"".join(taken)


class CountedChunks:
    """What was taken already, and then the rest of the chunks; `bytes` says how many have been read."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self.bytes = 0
        self._first = first
        self._rest = rest

    async def read(self) -> AsyncGenerator[bytes, None]:
        """All of it, in order."""
        first, self._first = self._first, b""
        self.bytes += len(first)
        yield first
        async for chunk in self._rest:
            self.bytes += len(chunk)
            yield chunk
