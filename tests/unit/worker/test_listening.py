"""Sockets that listen."""

import asyncio
import socket

from worker.listening import listen


async def test_answers_in_two_parts_are_sent_without_waiting_for_each_other() -> None:
    connected: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connected.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    async with await asyncio.start_server(note, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        without_delay = await connected
        writer.close()

    assert without_delay
