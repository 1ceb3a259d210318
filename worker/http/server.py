"""The process: where it listens, how it stops."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from uvicorn import Config, Server

from worker.http.app import build
from worker.http.connections import HttpConnection, WebSocketConnection
from worker.http.face import Face, open_face
from worker.http.streams import PING_S
from worker.http.websocket import MOST_BYTES
from worker.listen_address import shown_address
from worker.listening import CannotListen, listen
from worker.logs import configure_logs
from worker.settings import Settings

log = structlog.get_logger(__name__)

BACKLOG = 2048


class KeysMissing(Exception):
    """The server can be reached from elsewhere, and nobody has a key."""


class _QuietServer(Server):
    """uvicorn's server, which leaves the signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then streams end, and uploads in flight may finish.

    Raises: CannotListen, KeysMissing.
    """
    configure_logs(settings.log)
    listener = _listen(settings.http_address)
    try:
        async with open_face(settings) as face:
            await _serve(face, listener)
    finally:
        listener.close()
        if isinstance(settings.http_address, Path):
            settings.http_address.unlink(missing_ok=True)


async def _serve(face: Face, listener: socket.socket) -> None:
    server = _QuietServer(
        Config(
            build(face),
            http=HttpConnection,
            ws=WebSocketConnection,
            ws_max_size=MOST_BYTES,
            ws_ping_interval=PING_S,
            ws_per_message_deflate=False,  # it takes memory for each client
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=face.settings.shutdown_wait,
        )
    )

    def stop() -> None:
        face.stopping.set()
        server.force_exit = server.should_exit  # the second signal
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("http_served", at=_shown(face.settings.http_address))
    checking = asyncio.create_task(_check_keys(face), name="check-keys")
    checking.add_done_callback(lambda task: stop() if not task.cancelled() and task.exception() else None)
    await server.serve(sockets=[listener])
    if checking.done():
        checking.result()
    checking.cancel()
    log.info("http_stopped")


async def _check_keys(face: Face) -> None:
    """Raises: KeysMissing as soon as the catalog is there, and no key is in it, though one is needed."""
    await face.opened.wait()
    if not face.settings.http_is_local and not await face.access.keys():
        raise KeysMissing


def _listen(address: tuple[str, int] | Path) -> socket.socket:
    if not isinstance(address, Path):
        return listen(*address, backlog=BACKLOG)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if address.is_socket():
            _remove_unused(address)
        listener.bind(os.fspath(address))
        address.chmod(0o666)  # as a port: who may connect is its folder's affair
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"unix:{address} cannot be listened on: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _remove_unused(path: Path) -> None:
    """Remove a socket that a server has left which died. Raises: CannotListen where one listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise CannotListen(f"unix:{path} is in use by another server")


def _shown(address: tuple[str, int] | Path) -> str:
    return f"unix:{address}" if isinstance(address, Path) else shown_address(*address)
