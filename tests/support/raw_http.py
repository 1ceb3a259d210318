"""HTTP over a bare socket: what is sent is sent as it stands."""

import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class RawAnswer:
    """An answer, with the names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoMore(Exception):
    """The connection was closed where an answer might begin."""


def connect_to(url: str) -> socket.socket:
    """A connection to the server of that URL."""
    parts = urlsplit(url)
    assert parts.hostname
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=TIMEOUT_S)


def ask(url: str, sent: bytes) -> RawAnswer:
    """The first answer to whatever is sent."""
    with closing(connect_to(url)) as connection:
        connection.sendall(sent)
        return read_answer(connection)


def read_answers(connection: socket.socket) -> list[RawAnswer]:
    """All answers until the server closes the connection."""
    answers = []
    while True:
        try:
            answers.append(read_answer(connection))
        except NoMore:
            return answers


def read_answer(connection: socket.socket) -> RawAnswer:
    """The next answer, and no byte more. Raises: NoMore."""
    lines = [_line(connection)]
    if not lines[0]:
        raise NoMore
    while line := _line(connection):
        lines.append(line)
    status = int(lines[0].split(" ")[1])
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    if status == 100:
        return read_answer(connection)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(_line(connection), 16):
            body += _exactly(connection, size)
            _line(connection)
        _line(connection)
    else:
        body = _exactly(connection, int(headers.get("content-length", 0)))
    return RawAnswer(status, headers, body)


def _line(connection: socket.socket) -> str:
    found = b""
    while not found.endswith(b"\r\n"):
        try:
            byte = connection.recv(1)
        except ConnectionResetError:
            byte = b""
        if not byte:
            assert not found, f"cut within {found!r}"
            return ""
        found += byte
    return found[:-2].decode("latin-1")


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        assert part, "cut within a body"
        found += part
    return found
