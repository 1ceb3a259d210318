"""The endpoints of probes and metrics: one thread with an event loop of its own, so that it answers while the
worker's is blocked.

Whoever sends nothing, or reads nothing, loses its connection after some seconds, and at once where more than
some are open: the oldest goes first, so the next probe is always answered.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog

from worker.listen_address import shown_address
from worker.listening import CannotListen, listen
from worker.status import Status

log = structlog.get_logger(__name__)

PATIENCE_S = 5.0  # with one client, from its first byte to its last
MOST_CLIENTS = 64
_MOST_HEAD = 8192  # bytes of a request
_MOST_REST = 65_536  # of what follows it, which nobody reads
_JSON = "application/json"
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN = "text/plain; charset=utf-8"

Answer = tuple[HTTPStatus, str, bytes]


class Endpoints:
    """What is answered to a request: its path, and whether it is one of those that are served."""

    def __init__(self, status: Status, exposition: Callable[[], bytes]) -> None:
        self._status = status
        self._exposition = exposition
        self._paths: Mapping[str, Callable[[], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": self._liveness,
            "/readyz": self._readiness,
        }

    def answer(self, head: bytes) -> bytes:
        """The whole answer to a request with that head."""
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target, _, protocol = rest.rpartition(" ")
        if not protocol.startswith("HTTP/1."):
            return _written(_refused(HTTPStatus.BAD_REQUEST))
        serve = self._paths.get(target.partition("?")[0])
        if serve is None:
            return _written(_refused(HTTPStatus.NOT_FOUND), with_body=method != "HEAD")
        if method not in ("GET", "HEAD"):
            return _written(_refused(HTTPStatus.METHOD_NOT_ALLOWED), allow=True)
        return _written(serve(), with_body=method == "GET")

    def _metrics(self) -> Answer:
        try:
            return HTTPStatus.OK, _EXPOSITION, self._exposition()
        except Exception:
            log.exception("metrics_failed")
            return _refused(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _liveness(self) -> Answer:
        blocked = self._status.blocked()
        status = HTTPStatus.SERVICE_UNAVAILABLE if blocked else HTTPStatus.OK
        document = {"status": "unhealthy" if blocked else "ok", "reason": blocked}
        return status, _JSON, _as_json(document)

    def _readiness(self) -> Answer:
        readiness = self._status.readiness()
        status = HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, _JSON, _as_json(readiness.document)


@asynccontextmanager
async def serving(
    address: tuple[str, int], status: Status, exposition: Callable[[], bytes]
) -> AsyncIterator[None]:
    """Serve probes of `status`, and metrics, on that host and port. Raises: CannotListen."""
    listener = listen(*address)
    server = _Server(listener, Endpoints(status, exposition))
    try:
        server.start()
    except RuntimeError as error:
        listener.close()
        raise CannotListen(f"no thread can be started for {shown_address(*address)}: {error}") from error
    log.info("metrics_served", at=shown_address(*address))
    try:
        yield
    finally:
        server.stop()


class _Server:
    """The thread, its event loop and the connections that are open, the oldest first."""

    def __init__(self, listener: socket.socket, endpoints: Endpoints) -> None:
        self._listener = listener
        self._endpoints = endpoints
        self._open: dict[asyncio.StreamWriter, None] = {}
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="monitoring", daemon=True)

    def start(self) -> None:
        """Serve from now on. Raises: RuntimeError where no thread can be started."""
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def stop(self) -> None:
        """Close the port and all connections."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.set_exception_handler(_ignore)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._attend, sock=self._listener, limit=_MOST_HEAD)
        await self._stopped.wait()
        server.close()
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > MOST_CLIENTS:
            oldest = next(iter(self._open))
            del self._open[oldest]  # at once: the next in a burst is to end another
            oldest.transport.abort()
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(self._endpoints.answer(await _head(reader)))
                writer.write_eof()
                await _until_closed(reader)  # what is closed with something unread loses the answer
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass  # the client's affair
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The head of a request. Raises: EOFError where none comes."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return b""


async def _until_closed(reader: asyncio.StreamReader) -> None:
    rest = 0
    while rest < _MOST_REST and (read := await reader.read(_MOST_HEAD)):
        rest += len(read)


def _written(answer: Answer, *, with_body: bool = True, allow: bool = False) -> bytes:
    status, kind, body = answer
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(["Allow: GET, HEAD"] if allow else ()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")


def _refused(status: HTTPStatus) -> Answer:
    return status, _PLAIN, f"{status.phrase}\n".encode()


def _as_json(document: object) -> bytes:
    return json.dumps(document, default=dict).encode() + b"\n"  # in ASCII: a path may be no UTF-8


def _ignore(_loop: asyncio.AbstractEventLoop, _context: Mapping[str, object]) -> None:
    """Log nothing of what one client, or a lack of descriptors, does to a connection."""
