"""The connections of the server, which tell how much their client has not taken, and can be cut."""

import asyncio
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_EXTENSION = "media.transport"
_GOODBYE_S = 0.5  # for which a client may take to answer a close


class HttpConnection(HttpToolsProtocol):
    """A connection whose requests know it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: self.transport}  # type: ignore[dict-item]


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket whose application knows its connection, and ends it by itself once the server stops."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (as uvicorn has it)
        super().__init__(*args, **options)
        self.close_timeout = _GOODBYE_S

    async def run_asgi(self) -> None:
        self.scope["extensions"] = {**self.scope["extensions"], _EXTENSION: self.transport}  # type: ignore[dict-item]
        await super().run_asgi()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            return  # the application says goodbye
        super().shutdown()


def bound(transport: asyncio.Transport, kernel_bytes: int, lost_s: float) -> None:
    """Have little wait for a client that is slow, and the system end a connection whose client is lost.

    What was written waits in the system, and the rest in the transport, which takes no more until that is
    gone. A phone that has lost its network says no goodbye, and would be sent pings for a quarter of an hour.
    """
    transport.set_write_buffer_limits(0)
    known = transport.get_extra_info("socket")
    if known is None or known.fileno() < 0:  # who has left already has no socket
        return
    known.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)
    if known.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(AttributeError, OSError):  # Linux knows it
            known.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(lost_s * 1000))


def transport_of(scope: MutableMapping[str, Any]) -> asyncio.Transport | None:
    """The transport beneath a request; None where there is none, as in tests without a socket."""
    transport: asyncio.Transport | None = (scope.get("extensions") or {}).get(_EXTENSION)
    return transport
