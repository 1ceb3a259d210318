"""A proxy before Postgres that loses the connection at COMMIT: before the server has it, or after."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Literal

Loss = Literal["before", "after"]
_CHUNK = 65536


class CommitProxy:
    """Stands before the Postgres at `upstream`, in a thread of its own."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._losses: list[Loss] = []
        self.lost: list[Loss] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def lose(self, *losses: Loss) -> None:
        """Lose the connections of the next commits in these ways, one each."""
        self._losses.extend(losses)

    def close(self) -> None:
        """End."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
            try:
                await self._relay(reader, writer, there, back)
            finally:
                back.transport.abort()
        except OSError:
            pass  # one of the two has gone
        finally:
            writer.transport.abort()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        swallowing = asyncio.Event()
        ways = [
            asyncio.create_task(self._upward(reader, back, swallowing)),
            asyncio.create_task(self._downward(there, writer, swallowing)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()

    async def _upward(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, swallowing: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if self._losses and _is_commit(chunk):
                    self.lost.append(self._losses.pop(0))
                    if self.lost[-1] == "before":
                        return
                    swallowing.set()
                back.write(chunk)
                await back.drain()

    async def _downward(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await there.read(_CHUNK):
                if swallowing.is_set():  # this is the reply: the server has committed
                    return
                writer.write(chunk)
                await writer.drain()


def _is_commit(chunk: bytes) -> bool:
    return b"COMMIT;" in chunk and b"READ COMMITTED" not in chunk
