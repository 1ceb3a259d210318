"""The process: where it listens, how it stops."""

import asyncio
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from uvicorn import Config, Server

from worker.http.app import build
from worker.http.connections import WebSocketConnection
from worker.http.face import Face, open_face
from worker.http.limited_connections import ClientConnection, ConnectionLimits, connections_within
from worker.http.streams import PING_S
from worker.http.websocket import MOST_BYTES
from worker.listen_address import shown_address
from worker.listening import CannotListen, listen
from worker.logs import configure_logs
from worker.settings import Settings

log = structlog.get_logger(__name__)

BACKLOG = 2048
_LOOK_TICKS = 5  # of a tenth of a second, between two looks at connections that take long
_OTHER_FILES = 200  # that the process has open beside connections
_KEYS_WITHIN_S = 2  # the catalog tells whether there is one, or it is served before that is known
_TO_END_S = 5  # after connections were cut, for what was done for them


class KeysMissing(Exception):
    """The server can be reached from elsewhere, and nobody has a key."""


class QuietServer(Server):
    """uvicorn's server, which leaves signals to us, looks at its connections, and stops without an error."""

    def __init__(self, config: Config, connections: type[ClientConnection], stop_within_s: float) -> None:
        super().__init__(config)
        self._connections = connections
        self._stop_within_s = stop_within_s

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """End what takes too long; whether to stop."""
        if counter % _LOOK_TICKS == 0:
            self._look()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and wait for what was begun, but not for ever."""
        for listener in sockets or ():
            _remove_socket(listener)
        loop = asyncio.get_running_loop()
        looking = loop.create_task(self._keep_looking(), name="look-at-connections")
        cutting = loop.call_later(self._stop_within_s, self.cut)
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()
            looking.cancel()

    def cut(self) -> None:
        """Cut all connections: what is done for them learns that nobody waits for it."""
        if left := list(self.server_state.connections):
            log.warning("http_cut", connections=len(left))
        for connection in left:
            connection.transport.abort()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_TICKS / 10)
            self._look()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, ClientConnection):
                connection.look(now)
        if surplus := self._connections.surplus:
            self._connections.surplus = 0
            log.warning("http_connections_too_many", count=surplus, most=self._connections.limits.connections)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then streams end, and uploads in flight may finish.

    Raises: CannotListen, KeysMissing.
    """
    configure_logs(settings.log)
    # What it says of itself our own lines say; what a request breaks is logged where it is answered.
    # What clients send amiss they are told, and the log is not theirs to fill.
    for name in ("uvicorn", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    listener = _listen(settings.http_address)
    try:
        async with open_face(settings) as face:
            await _serve(face, listener)
    finally:
        _remove_socket(listener)
        listener.close()


async def _serve(face: Face, listener: socket.socket) -> None:
    connections = connections_within(ConnectionLimits(connections=_room_for(face.settings.http_connections)))
    config = Config(
        build(face),
        http=connections,
        ws=WebSocketConnection,
        ws_max_size=MOST_BYTES,
        ws_ping_interval=PING_S,
        ws_per_message_deflate=False,  # it takes memory for each client
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whose are believed the access log knows
        timeout_graceful_shutdown=face.settings.shutdown_wait + _TO_END_S,
    )
    server = QuietServer(config, connections, face.settings.shutdown_wait)

    def stop() -> None:
        if face.stopping.is_set():  # the second signal
            server.force_exit = True
            server.cut()
        else:
            log.info("http_stops", connections=len(server.server_state.connections))
        face.stopping.set()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    checking = asyncio.create_task(_check_keys(face), name="check-keys")
    checking.add_done_callback(lambda task: stop() if not task.cancelled() and task.exception() else None)
    if not face.settings.http_is_local:  # whoever connects meanwhile waits; without a catalog, not for long
        await asyncio.wait([checking], timeout=_KEYS_WITHIN_S)
    if checking.done():
        checking.result()
    log.info("http_served", at=_shown(face.settings.http_address))
    await server.serve(sockets=[listener])
    if checking.done():
        checking.result()
    checking.cancel()
    log.info("http_stopped")


def _room_for(connections: int) -> int:
    """How many connections there can be: as many as asked for, if the system allows so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + ConnectionLimits.spare_connections + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        connections = max(1, allowed - ConnectionLimits.spare_connections - _OTHER_FILES)
        log.warning("http_connections_limited", most=connections, reason=f"{hard} files may be open")
    return connections


async def _check_keys(face: Face) -> None:
    """Say that all is there. Raises: KeysMissing where no key is in the catalog, though one is needed."""
    await face.opened.wait()
    if not face.settings.http_is_local and not await face.access.keys():
        raise KeysMissing
    log.info("http_ready")


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


def _remove_socket(listener: socket.socket) -> None:
    """Remove the file of a socket while it is ours: once that is closed, another server may take the path."""
    if listener.fileno() >= 0 and listener.family == socket.AF_UNIX:
        Path(listener.getsockname()).unlink(missing_ok=True)


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
