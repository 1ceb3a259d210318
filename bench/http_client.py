"""A light client for loads on an HTTP server: connections that stay open, answers told apart by their length.

It costs a tenth of what a full client costs, so that one core can ask more than another can answer.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

from bench.contenders import BenchError
from bench.statistics import percentile

_LENGTH = b"\r\ncontent-length:"
_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """The status of an answer, and its body."""

    status: int
    body: bytes


@dataclass
class Load:
    """What came of many requests: how long each took, in ms, and how often each status came."""

    ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.ms) / self.seconds

    def p(self, percent: float) -> float:
        """What `percent` per cent of the requests took at most, in ms."""
        return percentile(self.ms, percent)

    def check(self, status: int = 200) -> None:
        """Raises: BenchError unless all answers had that status."""
        if set(self.statuses) != {status}:
            raise BenchError(f"not all answers were {status}: {dict(self.statuses)}")


class Connection(asyncio.Protocol):
    """A connection; one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server has closed the connection"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        head = bytes(self._received[:end]).lower()
        at = head.find(_LENGTH)
        length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) >= end + 4 + length:
            body = bytes(self._received[end + 4 : end + 4 + length])
            self._received.clear()
            self._answer.set_result(Answer(int(head[9:12]), body))

    async def ask(self, head: bytes, body: bytes = b"") -> Answer:
        """Send a request; its answer. Raises: ConnectionResetError."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(head)
        for start in range(0, len(body), _CHUNK):
            await self._writable.wait()
            self.transport.write(body[start : start + _CHUNK])
        return await self._answer


@dataclass(frozen=True)
class Client:
    """Requests to a server, with a key if there is one."""

    url: str
    key: str = ""

    def request(self, target: str, method: str = "GET", length: int = 0, **headers: str) -> bytes:
        """The head of a request; `_` in names of headers stands for `-`."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {urlsplit(self.url).netloc}"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        if length:
            lines.append(f"Content-Length: {length}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    @asynccontextmanager
    async def connections(self, number: int) -> AsyncIterator[Sequence[Connection]]:
        """So many open connections."""
        host, port = urlsplit(self.url).hostname or "", urlsplit(self.url).port or 80
        loop = asyncio.get_running_loop()
        made: list[Connection] = []
        try:
            for _ in range(number):
                made.append((await loop.create_connection(Connection, host, port))[1])
            yield made
        finally:
            for connection in made:
                if connection.transport is not None:
                    connection.transport.close()

    async def load(
        self, requests: Sequence[bytes], total: int, connections: int, per_second: float | None = None
    ) -> Load:
        """Send `total` of these requests in turn, as fast as they are answered, or so many a second.

        With a rate the time of each counts from when it was due, also where no connection was free then.
        """
        found, numbers = Load(), count()

        async def send(connection: Connection, began: float) -> None:
            while (number := next(numbers)) < total:
                due = time.perf_counter() if per_second is None else began + number / per_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                answer = await connection.ask(requests[number % len(requests)])
                found.ms.append((time.perf_counter() - due) * 1000)
                found.statuses[answer.status] += 1

        async with self.connections(connections) as opened:
            began = time.perf_counter()
            await asyncio.gather(*(send(connection, began) for connection in opened))
            found.seconds = time.perf_counter() - began
        return found

    async def ask(self, head: bytes, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        async with self.connections(1) as (connection,):
            return await connection.ask(head, body)
