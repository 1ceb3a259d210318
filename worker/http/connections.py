"""The connections of the server, which tell how much their client has not taken, and can be cut."""

import asyncio
from collections.abc import MutableMapping
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


def transport_of(scope: MutableMapping[str, Any]) -> asyncio.Transport | None:
    """The transport beneath a request; None where there is none, as in tests without a socket."""
    transport: asyncio.Transport | None = (scope.get("extensions") or {}).get(_EXTENSION)
    return transport
