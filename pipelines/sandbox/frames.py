"""A socket to another process, in frames, and what that process says on its standard error."""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
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
        self._arrival: Arrival | None = None

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
        with self.arrival() as arrival:
            await arrival.within(None)
        return arrival.frame

    @contextlib.contextmanager
    def arrival(self) -> Iterator["Arrival"]:
        """The next frame as it arrives; nobody else receives meanwhile."""
        arrival = self._arrival = Arrival(self, self._sock)
        try:
            yield arrival
        finally:
            arrival.end()
            self._arrival = None

    def take(self) -> bytes | None:
        """The next frame, if it has come whole. Raises: as `receive`."""
        while (frame := self._whole()) is None:
            try:
                part = self._sock.recv(MAX_FRAME)
            except (BlockingIOError, InterruptedError):
                return None
            if not part:
                raise EOFError("the other process has closed")
            self._unread += part
        return frame

    def _whole(self) -> bytes | None:
        if len(self._unread) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._unread)[0]
        if end > _LENGTH.size + MAX_FRAME:
            raise DecoderCrashed("the decoder sent a frame that is too large")
        if len(self._unread) < end:
            return None
        frame, self._unread = self._unread[_LENGTH.size : end], self._unread[end:]
        return frame

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
            if self._arrival is not None:
                self._arrival.end()  # while the number is still this socket's
            self._sock.close()
            os.close(self._errors)


class Arrival:
    """A frame that is waited for: its socket is registered once, however often one looks at the clock."""

    def __init__(self, frames: Frames, sock: socket.socket) -> None:
        self._frames = frames
        self._loop = asyncio.get_running_loop()
        self._number = sock.fileno()
        self._is_registered = False
        self._may_read = True
        self._woken: asyncio.Future[None] | None = None
        self._is_late = False
        self.frame = b""

    async def within(self, seconds: float | None) -> bool:
        """Whether the frame has come whole by then. Raises: as `Frames.receive`."""
        if self._has_come():
            return True
        if not self._is_registered:
            self._loop.add_reader(self._number, self._come)
            self._is_registered = True
        self._is_late = False
        timer = None if seconds is None else self._loop.call_later(seconds, self._give_up)
        try:
            while not self._is_late:
                self._woken = self._loop.create_future()
                await self._woken
                if self._has_come():
                    return True
        finally:
            if timer is not None:
                timer.cancel()
        return False

    def _has_come(self) -> bool:
        if not self._may_read:  # it would only be said that nothing is there
            return False
        self._may_read = False
        frame = self._frames.take()
        if frame is None:
            return False
        self.frame = frame
        return True

    def _come(self) -> None:
        self._may_read = True
        self._wake()

    def _give_up(self) -> None:
        self._is_late = True
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def end(self) -> None:
        """Wait no more; whoever does finds the socket closed."""
        if self._is_registered:
            self._loop.remove_reader(self._number)
            self._is_registered = False
        self._come()
