"""Connections of streams: who is gone without a word is found out."""

import asyncio
import socket

from worker.http.connections import bound


async def test_a_client_that_acknowledges_nothing_is_given_up_by_the_system() -> None:
    ours: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours.set_result(writer.transport)  # type: ignore[arg-type]

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        _, theirs = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = await ours
        bound(transport, 65536, 30)

        known = transport.get_extra_info("socket")
        assert known.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert known.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65536
        for end in (theirs, transport):
            end.close()


async def test_a_unix_socket_is_bounded_too() -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)

    bound(transport, 65536, 30)

    assert transport.get_write_buffer_limits() == (0, 0)
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65536
    transport.close()
    theirs.close()


async def test_who_has_left_already_is_bounded_by_nothing() -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    theirs.close()
    transport.abort()
    await asyncio.sleep(0)  # the transport closes its socket in the next round of the loop

    bound(transport, 65536, 30)

    assert ours.fileno() < 0
