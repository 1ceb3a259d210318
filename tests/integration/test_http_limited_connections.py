"""What a connection may take, with limits that are short enough to be waited for."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn import Config

from worker.http.limited_connections import ConnectionLimits, connections_within
from worker.http.server import QuietServer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 20 << 20
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Opens = Callable[[], Awaitable[Streams]]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, whatever is sent; under /large with more than the kernel takes."""
    body = bytes(LARGE) if scope["path"] == "/large" else b"{}"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(**limits: float) -> AsyncIterator[Opens]:
    connections = connections_within(ConnectionLimits(**limits))  # type: ignore[arg-type]
    config = Config(app, http=connections, lifespan="off", log_config=None, access_log=False)
    server = QuietServer(config, connections, stop_within_s=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        opened: list[asyncio.StreamWriter] = []

        async def open_one() -> Streams:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            opened.append(writer)
            return reader, writer

        try:
            yield open_one
        finally:
            for writer in opened:
                writer.transport.abort()
            server.should_exit = True
            await serving
            await asyncio.sleep(0)  # for the connections that were aborted


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes the connection."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b"reset"


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HTTP/1.1\r\n"])
async def test_a_head_has_its_time_from_the_beginning_of_a_connection(sent: bytes) -> None:
    async with served(head_s=0.1) as opens:
        reader, writer = await opens()
        writer.write(sent)

        answer = await ended(reader)

    assert answer.startswith(b"HTTP/1.1 408 ") is bool(sent)


async def test_bytes_that_drip_give_a_head_no_more_time() -> None:
    async with served(head_s=0.3) as opens:
        reader, writer = await opens()
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        dripping = asyncio.create_task(drip(writer))

        assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X")
        await asyncio.sleep(0.05)


async def test_a_connection_that_is_idle_is_closed_and_one_that_is_used_is_not() -> None:
    async with served(idle_s=0.3, head_s=30) as opens:
        (idle, idle_writer), (used, used_writer) = await opens(), await opens()
        for writer in (idle_writer, used_writer):
            writer.write(GET)
        closing = asyncio.create_task(ended(idle))
        while not closing.done():
            used_writer.write(GET)
            await used.readuntil(b"{}")
            await asyncio.sleep(0.05)

        assert (await closing).count(b"200 OK") == 1
        assert not used.at_eof()


async def test_a_client_that_takes_nothing_of_an_answer_is_cut() -> None:
    async with served(stalled_s=0.3) as opens:
        _, writer = await opens()
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            while not writer.transport.is_closing():
                writer.write(b"\r\n")  # what is cut is noticed by who writes
                await asyncio.sleep(0.05)


async def test_the_rest_of_a_body_that_was_answered_is_read_for_a_while_and_no_longer() -> None:
    async with served(rest_s=0.3, linger_s=0.2) as opens:
        reader, writer = await opens()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")

        answer = await ended(reader)

    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_client_that_still_sends_can_read_why_it_is_refused() -> None:
    """A server that closes while bytes come resets the connection, and with it its last words."""
    async with served(head_bytes=1000) as opens:
        reader, writer = await opens()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + bytes(2000))
        await asyncio.sleep(0.05)
        for _ in range(20):
            writer.write(b"y" * 10_000)
            await asyncio.sleep(0)

        assert (await ended(reader)).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
