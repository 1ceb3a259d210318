"""A proxy before Redis that cuts, hangs and refuses on demand."""

import asyncio
from typing import Literal
from urllib.parse import urlsplit

from tests.support.redis_urls import by_port
from tests.support.tcp_proxy import Strike, TcpProxy

Mode = Literal["pass", "cut_on_multi", "drop_exec_reply", "blackhole", "first_only"]


class Proxy(TcpProxy):
    """Stands before the Redis of `behind`; workers connect to `url`."""

    def __init__(self, behind: str) -> None:
        self.mode: Mode = "pass"
        self.struck = 0  # how often a mode has done something
        super().__init__(urlsplit(behind).port or 0)
        self.url = by_port(behind, self.port)

    def let_in(self) -> None:
        if self.mode == "first_only":  # whoever comes after the first one hears nothing
            self.mode = "blackhole" if self.struck else "first_only"
            self.struck += 1

    def strike(self, chunk: bytes) -> Strike:
        if self.mode == "cut_on_multi" and b"MULTI\r\n" in chunk:
            self.struck += 1
            return Strike.CUT
        if self.mode == "drop_exec_reply" and b"EXEC\r\n" in chunk:
            self.struck += 1
            return Strike.DROP_REPLY
        return Strike.PASS

    async def hold(self) -> None:
        while self.mode == "blackhole":
            self.struck += 1
            await asyncio.sleep(0.05)
