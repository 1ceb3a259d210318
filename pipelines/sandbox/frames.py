"""A socket to another process, in frames, and what that process says on its standard error."""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any, Self

import orjson

from pipelines.errors import DecoderCrashed
from pipelines.sandbox.answers import MAX_FRAME, printable

BEGIN = b"."  # the first byte for a new decoder, which waits for it
_ERRORS_BYTES = 64 * 1024  # what a pipe holds
_STDERR_TAIL = 2000
_LENGTH = struct.Struct(">I")


class Frames:
    """This end of it; everything that comes is untrusted."""

    def __init__(self, sock: socket.socket, errors: int) -> None:
        self._sock = sock
        self._errors = errors
        self._unread = self._said = b""

    @classmethod
    def open(cls, undo: contextlib.ExitStack) -> tuple[Self, socket.socket, int]:
        """A connection, and the socket and the pipe for the other process, which `undo` closes.

        Raises: OSError.
        """
        with contextlib.ExitStack() as failed:
            ours, theirs = socket.socketpair()
            undo.enter_context(theirs)
            failed.callback(ours.close)
            ours.setblocking(False)
            # Its messages stay in the pipe, as far as it has room; the rest is refused at once.
            errors, saying = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            undo.callback(os.close, saying)
            failed.pop_all()
        return cls(ours, errors), theirs, saying

    @property
    def is_closed(self) -> bool:
        return self._sock.fileno() == -1

    async def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one frame, with `descriptors` beside its first bytes. Raises: OSError."""
        body = orjson.dumps(message)
        frame = _LENGTH.pack(len(body)) + body
        sent = socket.send_fds(self._sock, [frame], descriptors)
        if rest := frame[sent:]:  # even to send nothing fails where it has answered and ended already
            await asyncio.get_running_loop().sock_sendall(self._sock, rest)

    def begin(self) -> None:
        """Let a process that was forked go on. Raises: OSError."""
        self._sock.send(BEGIN)

    async def receive(self) -> bytes:
        """The next frame. Raises: OSError, EOFError, DecoderCrashed where it is too large."""
        length = _LENGTH.unpack(await self._exactly(_LENGTH.size))[0]
        if length > MAX_FRAME:
            raise DecoderCrashed("the decoder sent a frame that is too large")
        return await self._exactly(length)

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        while len(self._unread) < count:
            part = await loop.sock_recv(self._sock, MAX_FRAME)
            if not part:
                raise EOFError("the other process has closed")
            self._unread += part
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def is_silent(self) -> bool:
        """Whether nothing has come that was not asked for."""
        look = select.poll()  # whatever the number of the descriptor is
        look.register(self._sock, select.POLLIN)
        return not (self._unread or look.poll(0))

    def stderr_tail(self) -> str:
        """The end of what the process wrote on its standard error, printable."""
        if not self.is_closed:  # otherwise the number of the pipe may be another file's by now
            with contextlib.suppress(BlockingIOError):
                while part := os.read(self._errors, _ERRORS_BYTES):
                    self._said = (self._said + part)[-_STDERR_TAIL:]
        return printable(self._said.decode(errors="replace").strip())

    def close(self) -> None:
        """Close both; a second time does nothing."""
        if not self.is_closed:
            self._sock.close()
            os.close(self._errors)
