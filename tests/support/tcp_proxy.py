"""A proxy before a server of TCP, in a thread of its own: it relays, refuses and cuts on demand."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any

_CHUNK = 65536


class Strike(Enum):
    """What becomes of a connection whose client has sent something."""

    PASS = auto()
    CUT = auto()
    """Nobody gets it, and the connection ends."""
    DROP_REPLY = auto()
    """The server gets it, and the connection ends in the place of its answer."""


class TcpProxy:
    """Stands before the server that listens at a port of this machine; clients connect to `self.port`."""

    tls: ssl.SSLContext | None = None
    """What clients must speak; the server itself speaks none."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._upstream = port
        self._address = address
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0  # any, at first
        self._listener: socket.socket | None = None
        self.accept()

    def strike(self, chunk: bytes) -> Strike:
        """What becomes of what a client has sent."""
        return Strike.PASS

    async def hold(self) -> None:
        """Wait before something is relayed, in either direction."""

    def let_in(self) -> None:
        """Somebody has connected."""

    def accept(self) -> None:
        """Listen (again)."""
        self._do(self._open())

    def refuse(self) -> None:
        """Cut what is connected, and let nobody connect."""
        self._do(self._close())

    def cut(self) -> None:
        """Cut what is connected; whoever comes back is let in."""
        self._do(self._cut())

    def close(self) -> None:
        """End."""
        self._do(self._close())
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self._address, self.port))
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            self._accepting = self._loop.create_task(self._accept_all(self._listener))

    async def _accept_all(self, listener: socket.socket) -> None:
        # Not `asyncio.start_server`: what it has just accepted when it is closed, it leaves open for ever.
        with contextlib.suppress(OSError), listener:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                with contextlib.suppress(OSError):  # it speaks no TLS, or does not trust us
                    await self._welcome(client)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # whoever accepts there is woken by an error
            self._listener = None
            await self._accepting
        await self._cut()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was aborted is closed in the loop's next turns

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _welcome(self, client: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=self.tls)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        self._writers.add(writer)
        self._begin(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.let_in()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
            try:
                await self._relay(reader, writer, there, back)
            finally:
                back.transport.abort()
        except OSError:
            pass  # the server itself is away
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        dropping = asyncio.Event()
        ways = [
            self._begin(self._upward(reader, back, dropping)),
            self._begin(self._downward(there, writer, dropping)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()

    async def _upward(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, dropping: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                strike = self.strike(chunk)
                if strike is Strike.CUT:
                    return
                if strike is Strike.DROP_REPLY:
                    dropping.set()
                await self.hold()
                back.write(chunk)
                await back.drain()

    async def _downward(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, dropping: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await there.read(_CHUNK):
                if dropping.is_set():
                    return
                await self.hold()
                writer.write(chunk)
                await writer.drain()
