"""Sockets that listen on a host and a port, or a sentence that says why not."""

import errno
import socket

from worker.listen_address import shown_address

BACKLOG = 128  # connections that may wait to be accepted


class CannotListen(Exception):
    """Nothing can be served where the settings say; the message says why, and what to do."""


def listen(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """A socket that listens there. Raises: CannotListen."""
    shown = shown_address(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"there is no address for {host}: {error}") from error
    family, _, _, _, where = found[0]
    try:
        # Named, or asyncio leaves Nagle's algorithm on: answers in two parts would wait 40 ms for each other.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise CannotListen(f"{shown}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # [::] means every address, as in other programs
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind(where)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise CannotListen(f"{shown} {_remedy(error)}") from error
    listener.setblocking(False)
    return listener


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "is in use, perhaps by another worker or server: choose a port of its own"
        case errno.EADDRNOTAVAIL:
            return "is no address of this machine"
        case errno.EACCES:
            return "may not be used by this user: choose a port of 1024 or above"
    return f"cannot be listened on: {error.strerror}"
