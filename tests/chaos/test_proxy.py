"""The proxy before Redis leaves nothing open, whenever it ends."""

import gc
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

from scripts.redis_server import RedisServer
from tests.chaos.proxy import Proxy


def test_connections_that_come_while_it_ends_are_closed(redis_server: RedisServer) -> None:
    for _ in range(20):
        proxy = Proxy(redis_server.url)
        place = urlsplit(proxy.url)
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(socket.create_connection((place.hostname, place.port)))
            proxy.close()

    gc.collect()  # what is still open now is an error of this test
