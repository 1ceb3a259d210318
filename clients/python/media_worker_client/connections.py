"""What a client of Redis says about itself: how long it waits for a reply."""

from __future__ import annotations

import inspect
import os
import secrets
import socket
from typing import Any

SOCKET_TIMEOUT_S = 15.0
"""Of the clients that are made here."""
_LONGEST_BLOCK_S = 5.0
_LONGEST_WITH_STOP_S = 1.0


def block_s(redis: Any, *, may_stop: bool) -> float:  # noqa: ANN401 (redis.Redis or redis.asyncio.Redis)
    """How long a read may block: well below the client's own timeout, which redis-py 8 has by default."""
    longest = _LONGEST_WITH_STOP_S if may_stop else _LONGEST_BLOCK_S
    timeout = socket_timeout_s(redis)
    return longest if timeout is None else min(longest, timeout / 2)


def socket_timeout_s(redis: Any) -> float | None:  # noqa: ANN401
    """Seconds after which the client gives up waiting for a reply; None: never."""
    pool = redis.connection_pool
    given = pool.connection_kwargs.get("socket_timeout", _default(pool.connection_class))
    return float(given) if isinstance(given, (int, float)) else None


def own_name() -> str:
    """A consumer's name that nobody else will ever have."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _default(connection: type) -> object:
    """The timeout of a connection that is made without one."""
    for one in connection.__mro__:
        if "__init__" in vars(one):
            parameter = inspect.signature(vars(one)["__init__"]).parameters.get("socket_timeout")
            if parameter is not None:
                return parameter.default
    return None
