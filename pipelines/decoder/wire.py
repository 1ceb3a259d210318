"""The child's end of the socket: length-prefixed orjson frames of at most 64 KiB, and descriptors."""

import array
import os
import socket
import struct
from typing import Any

import orjson

MAX_FRAME = 64 * 1024


class Channel:
    """Frames both ways over one stream socket; what arrives is complete or raises."""

    def __init__(self, connection: socket.socket, most_descriptors: int = 1) -> None:
        self._connection = connection
        self._room = socket.CMSG_SPACE(most_descriptors * array.array("i").itemsize)

    def close(self) -> None:
        self._connection.close()

    def send(self, message: dict[str, Any]) -> None:
        body = orjson.dumps(message)
        if len(body) > MAX_FRAME:
            raise ValueError(f"a frame of {len(body)} bytes is longer than {MAX_FRAME}")
        self._connection.sendall(struct.pack(">I", len(body)) + body)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """Return the next frame and the descriptors sent with it, or None once the parent has closed."""
        descriptors: list[int] = []
        head = self._exactly(4, descriptors)
        if not head:
            return None
        (length,) = struct.unpack(">I", head)
        if length > MAX_FRAME:
            raise ValueError(f"a frame of {length} bytes is longer than {MAX_FRAME}")
        message = orjson.loads(self._exactly(length, descriptors))
        return message, descriptors

    def _exactly(self, count: int, descriptors: list[int]) -> bytes:
        parts = b""
        while len(parts) < count:
            part, ancillary, _, _ = self._connection.recvmsg(count - len(parts), self._room)
            descriptors += _descriptors(ancillary)
            if not part:
                if parts:
                    raise EOFError("the parent closed in the middle of a frame")
                return b""
            parts += part
        return parts


def close_all(descriptors: list[int]) -> None:
    """Close every descriptor, whatever became of the others."""
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)
