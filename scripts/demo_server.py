"""The HTTP server of `media demo --serve`: where it listens, and when it answers."""

import asyncio
import importlib.util
from http.client import HTTPConnection, HTTPException

from scripts.processes import free_port
from scripts.terminal import CommandError
from storage.errors import lacking
from worker.http import PACKAGES
from worker.listening import CannotListen, listen

HOST = "127.0.0.1"  # this machine alone, for whoever reaches it needs no key
_USUAL_PORT = 8080
_LOOK_S = 0.05
_ANSWER_S = 10


def choose_port(wanted: int | None) -> int:
    """The port that is wanted, else the usual one, or another where that is taken.

    Raises: CommandError where the wanted one is taken, or nothing is installed that could serve.
    """
    if not all(importlib.util.find_spec(name) for name in PACKAGES):
        raise CommandError(f"HTTP {lacking('http')}", code=2)
    try:
        listen(HOST, wanted or _USUAL_PORT).close()
    except CannotListen as error:
        if wanted is not None:
            raise CommandError(f"--port: {error}", code=2) from error
        return free_port()
    return wanted or _USUAL_PORT


def console_at(port: int) -> str:
    """The address of the console of a server that listens there."""
    return f"http://{HOST}:{port}/console"


async def until_it_answers(port: int) -> None:
    """Wait until a server that listens there has catalog and Redis."""
    while not await asyncio.to_thread(_is_ready, port):  # noqa: ASYNC110 (of another process)
        await asyncio.sleep(_LOOK_S)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
