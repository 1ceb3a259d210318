"""A proxy that holds one request back."""

import asyncio
import threading

from tests.support.tcp_proxy import Strike, TcpProxy


class HoldingProxy(TcpProxy):
    """Relays all but the request that contains these bytes: that it holds until it is let go."""

    def __init__(self, port: int, wanted: bytes) -> None:
        self._wanted = wanted
        self._is_next = False
        self._may_go = asyncio.Event()
        self.holds = threading.Event()
        super().__init__(port)

    def strike(self, chunk: bytes) -> Strike:
        self._is_next = self._wanted in chunk
        return Strike.PASS

    async def hold(self) -> None:
        if self._is_next:
            self._is_next = False
            self.holds.set()
            await self._may_go.wait()

    def let_go(self) -> None:
        """Relay it, and from now on all."""
        self._loop.call_soon_threadsafe(self._may_go.set)
