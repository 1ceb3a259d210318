"""Frames from another process: whole however they come, and no wait for what cannot come."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from pipelines.errors import DecoderCrashed
from pipelines.sandbox.answers import MAX_FRAME
from pipelines.sandbox.frames import Frames

Ends = tuple[Frames, socket.socket]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    """This end of a connection, and the socket of the other process."""
    with contextlib.ExitStack() as theirs:
        frames, other, _ = Frames.open(theirs)
        yield frames, other
        frames.close()


async def test_a_frame_that_comes_byte_by_byte_is_received_whole(ends: Ends) -> None:
    frames, other = ends
    receiving = asyncio.create_task(frames.receive())
    for byte in _framed(b"hello") + _framed(b"again"):
        other.send(bytes([byte]))
        await asyncio.sleep(0)

    assert await receiving == b"hello"
    assert await frames.receive() == b"again"


async def test_the_first_bytes_of_a_frame_do_not_end_the_wait_for_it(ends: Ends) -> None:
    """Who looks at a decoder whenever a wait has ended would look as often as that sends a byte."""
    frames, other = ends
    *first, last = _framed(b"hello")
    with frames.arrival() as arrival:
        waiting = asyncio.create_task(arrival.within(60))
        for byte in first:
            other.send(bytes([byte]))
            await asyncio.sleep(0)
        assert not waiting.done()

        other.send(bytes([last]))
        assert await waiting
        assert arrival.frame == b"hello"


async def test_a_frame_of_which_ever_more_bytes_come_is_waited_for_no_longer(ends: Ends) -> None:
    frames, other = ends
    other.send(MAX_FRAME.to_bytes(4))
    with frames.arrival() as arrival:
        waiting = asyncio.create_task(arrival.within(0.01))
        for _ in range(MAX_FRAME - 1):
            if waiting.done():
                break
            other.send(b"x")
            await asyncio.sleep(0)

        assert not await asyncio.wait_for(waiting, 0)


async def test_whoever_waits_for_a_frame_learns_at_once_that_this_end_is_closed(ends: Ends) -> None:
    frames, _ = ends
    receiving = asyncio.create_task(frames.receive())
    await asyncio.sleep(0)
    frames.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        await receiving


async def test_half_a_frame_before_the_end_of_the_other_process_is_no_frame(ends: Ends) -> None:
    frames, other = ends
    other.send(_framed(b"hello")[:-1])
    other.shutdown(socket.SHUT_WR)

    with pytest.raises(EOFError):
        await frames.receive()


async def test_a_frame_that_says_it_is_too_large_is_not_waited_for(ends: Ends) -> None:
    frames, other = ends
    other.send((MAX_FRAME + 1).to_bytes(4))

    with pytest.raises(DecoderCrashed, match="too large"):
        await frames.receive()


async def test_a_wait_that_is_cancelled_loses_nothing_of_the_frame(ends: Ends) -> None:
    frames, other = ends
    other.send(_framed(b"hello")[:6])
    receiving = asyncio.create_task(frames.receive())
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    other.send(_framed(b"hello")[6:])

    assert await frames.receive() == b"hello"


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4) + body
