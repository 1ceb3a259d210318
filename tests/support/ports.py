"""Ports of this machine that nobody listens on."""

import socket
from contextlib import closing


def free_port() -> int:
    """One that was free a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    return port
