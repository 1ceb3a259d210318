"""Writing an object as its bytes come: the client signs it, the standard library sends it from a thread."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from storage.blobs.s3_errors import of_answer, of_connection

_TIMEOUT_S = 30.0  # for each step on the wire


async def put_stream(url: str, content: AsyncIterator[bytes], size: int, headers: Mapping[str, str]) -> None:
    """Write `content`, which has `size` bytes, at a signed URL, or nothing where it breaks off.

    Raises: what `content` raises, and what the client raises.
    """
    async with aclosing(_one_behind(content, size)) as chunks:
        sender = _Sender(chunks, asyncio.get_running_loop())
        given = {**headers, "Content-Length": str(size)}
        request = Request(url, sender.take(), given, method="PUT")  # noqa: S310 (the client made the URL)
        await sender.send(request)


async def _one_behind(content: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """The same chunks, the last of them only after the content has ended well: before, it is not whole."""
    last, count = b"", 0
    async for chunk in content:
        count += len(chunk)
        if last:
            yield last
        last = chunk
    if count != size:
        raise of_connection(ValueError(f"{count} of {size} bytes came"))
    yield last


class _Sender:
    """Sends one request from a thread of its own, which a slow content may keep for long."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._sent: asyncio.Future[None] = loop.create_future()
        self._next: asyncio.Task[bytes | None] | None = None
        self._is_over = False

    async def send(self, request: Request) -> None:
        """Send it; who is cancelled leaves the thread alone, which gets no more bytes then."""
        threading.Thread(target=self._run, args=[request], name="put-stream", daemon=True).start()
        try:
            await self._sent
        finally:
            self._is_over = True
            if self._next is not None:
                self._next.cancel()
                await asyncio.wait([self._next])

    def take(self) -> Iterator[bytes]:
        """The chunks, for the thread."""
        while (chunk := asyncio.run_coroutine_threadsafe(self._take(), self._loop).result()) is not None:
            yield chunk

    async def _take(self) -> bytes | None:
        if self._is_over:
            raise ConnectionAbortedError
        self._next = asyncio.current_task()
        return await anext(self._chunks, None)

    def _run(self, request: Request) -> None:
        error: Exception | None = None
        try:
            with build_opener().open(request, timeout=_TIMEOUT_S) as answer:
                answer.read()
        except HTTPError as failed:
            error = of_answer(failed.code, failed.read().decode(errors="replace"))
        except (OSError, HTTPException) as failed:
            error = of_connection(failed)
        except Exception as failed:  # of the content
            error = failed
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: Exception | None) -> None:
        if self._sent.done():
            return
        if error is None:
            self._sent.set_result(None)
        else:
            self._sent.set_exception(error)
