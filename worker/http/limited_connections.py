"""A connection: how long it may take, how much it may send, and what on it is no HTTP.

uvicorn has no time for a head, no limits, and answers in plain text; whoever asks this server gets problems.
"""

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from worker.http.connections import HttpConnection
from worker.http.problems import Problem

log = structlog.get_logger(__name__)

KIB = 1024
_HOST = re.compile(rb"[A-Za-z0-9._~:%\[\]-]*")


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may take."""

    connections: int = 2000
    spare_connections: int = 100  # beyond those, which are told that there are too many
    head_s: float = 10  # from the first byte of a head, or the beginning of the connection
    idle_s: float = 75  # longer than a proxy keeps it: one that is closed just then costs a request
    rest_s: float = 120  # for what is left of a body that was answered already
    stalled_s: float = 30  # in which a client takes nothing of an answer
    linger_s: float = 2  # for the answer to be read by one that still sends
    head_bytes: int = 64 * KIB
    url_bytes: int = 16 * KIB
    headers: int = 100
    pipelined: int = 16  # requests that wait for the answers to those before
    chunk_waste: int = 16 * KIB  # bytes that chunks may have beside their content and the usual frames
    rest_bytes: int = 64 * KIB * KIB


class _Refused(Exception):
    """Ends the parser's work; the connection knows why."""


class ClientConnection(HttpConnection):
    """A connection within limits."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    surplus: ClassVar[int] = 0
    """How many connections were too many lately."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        self._running: RequestResponseCycle | None = None
        self._refusal: Problem | None = None
        self._ended = False  # nothing that comes is looked at any more
        self._in_body = False
        self._unread = 0  # bytes since the last that were good for something
        self._head_bytes = 0
        self._idle_since: float | None = self.loop.time()
        self._head_since: float | None = self._idle_since
        self._rest_since: float | None = None
        self._end_by: float | None = None
        self._unsent, self._unsent_since = 0, self._idle_since
        super().connection_made(_Lingering(self, transport))  # type: ignore[arg-type]
        if len(self.connections) > self.limits.connections:
            self._make_room()

    def _make_room(self) -> None:
        type(self).surplus += 1
        if len(self.connections) > self.limits.connections + self.limits.spare_connections:
            self._socket.abort()
            return
        idle = [each for each in self.connections if isinstance(each, ClientConnection) and each.is_idle]
        oldest = min(idle, key=lambda each: each._idle_since or 0, default=self)
        if oldest is not self:
            oldest._socket.close()
        else:
            self._answer(Problem("busy", "There are too many connections. Try again soon."))

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if it were closed."""
        return self._idle_since is not None and not self._ended and not self._socket.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever works for it that nobody waits."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        self._ended = True
        super().connection_lost(exc)

    def look(self, now: float) -> None:
        """End what takes too long; called now and then."""
        is_over = self._end_by is not None and now > self._end_by
        if is_over or self._took_nothing(now) > self.limits.stalled_s:
            self._socket.abort()
        elif self._rest_since is not None and now - self._rest_since > self.limits.rest_s:
            self._linger()
        elif self._idle_since is not None and now - self._idle_since > self.limits.idle_s:
            self._socket.close()
        elif self._head_since is not None and now - self._head_since > self.limits.head_s:
            if self._unread:
                self._refuse(Problem("bad_request", "The head took too long.", HTTPStatus.REQUEST_TIMEOUT))
            else:
                self._socket.close()

    def _took_nothing(self, now: float) -> float:
        unsent = self._socket.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as long as it is good."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        self._idle_since = None
        if self._head_since is None and not self._in_body:
            self._head_since = self.loop.time()
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or _not_http(error))
        else:
            self._check_waste()

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self.transport = self._socket
            self._running = None
            self.handle_websocket_upgrade()
        else:  # the request was taken, in HTTP/1.1 as it came; what follows may be anything
            self._ended = True

    def _check_waste(self) -> None:
        if self._ended:
            return
        if self._in_body and self._is_answered():
            if self._unread > self.limits.rest_bytes:
                self._linger()
        elif self._in_body:
            if self._unread > self.limits.chunk_waste:
                self._refuse(Problem("bad_request", "The chunks have more around them than in them."))
        elif self._unread > self.limits.head_bytes:
            self._refuse(_head_too_large(self.limits.head_bytes))

    def _is_answered(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete

    # -- what the parser says

    def on_message_begin(self) -> None:
        """Begin with another head."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target, unless it is too long."""
        super().on_url(url)
        if len(self.url) > self.limits.url_bytes:
            detail = f"A target has at most {self.limits.url_bytes} bytes."
            self._stop(Problem("bad_request", detail, HTTPStatus.REQUEST_URI_TOO_LONG))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless there are too many, or it comes after the body, where nobody looks for it."""
        if self._in_body:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self.limits.head_bytes or len(self.headers) >= self.limits.headers:
            self._stop(_head_too_large(self.limits.head_bytes))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, if the head is one."""
        if problem := self._mistake():
            self._stop(problem)
        super().on_headers_complete()
        if len(self.pipeline) > self.limits.pipelined:
            self._stop(Problem("busy", "Too many requests wait for the answers to those before."))
        if self.parser.should_upgrade() and not self._should_upgrade():
            self.cycle.keep_alive = False
        self._head_since = None
        self._in_body = True
        self._unread = 0

    def on_chunk_header(self) -> None:
        """A chunk has a frame."""
        self._unread = max(0, self._unread - 16)

    def on_body(self, body: bytes) -> None:
        """What is in the body is no waste."""
        if not self._is_answered():
            self._unread = max(0, self._unread - 2 * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next that comes is another head."""
        self._in_body = False
        self._rest_since = None
        self._unread = 0
        if self._is_answered() and not self.pipeline:
            self._idle_since = self.loop.time()
        super().on_message_complete()

    def _stop(self, problem: Problem) -> None:
        self._refusal = problem
        raise _Refused

    def _mistake(self) -> Problem | None:
        """What is wrong with a head that can be parsed."""
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            return Problem("bad_request", "HTTP/1.1, please.", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_HOST.fullmatch, hosts)):
            return Problem("bad_request", "A request has one Host.")
        encodings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if encodings and (version == "1.0" or encodings != [b"chunked"]):
            detail = "The only Transfer-Encoding is chunked, in HTTP/1.1."
            return Problem("bad_request", detail, HTTPStatus.NOT_IMPLEMENTED)
        if self.parser.should_upgrade() and self._should_upgrade() and self._has_body():
            return Problem("bad_request", "A WebSocket begins with a request without a body.")
        if self.parser.get_method() == b"CONNECT":
            return Problem("bad_request", "This is no proxy.", HTTPStatus.NOT_IMPLEMENTED)
        if not self.url.startswith(b"/") and not self._is_ours(hosts):
            return Problem("bad_request", "The target must be a path, or a URL of the very Host.")
        return None

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )

    def _is_ours(self, hosts: list[bytes]) -> bool:
        """Whether an absolute target names the host that the request names."""
        scheme, _, rest = self.url.partition(b"://")
        authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
        return scheme.lower() in (b"http", b"https") and [authority.lower()] == [
            host.lower() for host in hosts
        ]

    # -- how requests end

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 (uvicorn names its type)
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # of which `look` takes care
        if self._running is not None and not self._running.response_complete:
            return
        if self._in_body:
            self._rest_since = self.loop.time()
        else:
            self._idle_since = self.loop.time()

    def _refuse(self, problem: Problem) -> None:
        """Say what is wrong and close, but leave alone what is being answered."""
        if self._ended:
            return
        running = self._running
        log.info("http_refused", status=_status(problem), reason=problem.detail, client=_shown(self.client))
        if running is None or (running.response_complete and not self._in_body):
            self._answer(problem)
        elif running.response_complete:  # of a body that was answered already
            self._linger()
        elif running is not self.cycle or not self._in_body:  # the one before was in order
            self.pipeline.clear()
            self.cycle = running
            self._ended, running.keep_alive = True, False
        elif running.response_started:
            self._socket.abort()
        else:
            running.disconnected = True
            running.message_event.set()
            self._answer(problem)

    def _answer(self, problem: Problem) -> None:
        response = problem.response()
        head = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = [STATUS_LINE[response.status_code], *(b"%b: %b\r\n" % pair for pair in head), b"\r\n"]
        self._socket.write(b"".join([*lines, bytes(response.body)]))
        self._linger()

    def _linger(self) -> None:
        """Close for writing, and read on for a little: else who still sends would lose the answer."""
        self._ended, self._head_since, self._rest_since = True, None, None
        self._unset_keepalive_if_required()
        if self._end_by is None and not self._socket.is_closing():
            self._end_by = self.loop.time() + self.limits.linger_s
            self.flow.resume_reading()
            self._socket.write_eof()

    def end(self) -> None:
        """Close, so that an answer arrives."""
        if self._in_body and not self._socket.is_closing():
            self._linger()
        else:
            self._socket.close()

    @property
    def has_ended(self) -> bool:
        """Whether no further request is taken."""
        return self._end_by is not None or self._socket.is_closing()


class _Lingering:
    """A transport whose `close` lets an answer arrive at a client that still sends."""

    def __init__(self, connection: ClientConnection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport

    def close(self) -> None:
        self._connection.end()

    def is_closing(self) -> bool:
        return self._connection.has_ended

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (of whatever the transport has)
        return getattr(self._transport, name)


def connections_within(limits: ConnectionLimits) -> type[ClientConnection]:
    """The class of connections that keep within these limits."""
    return type("LimitedConnection", (ClientConnection,), {"limits": limits})


def _not_http(error: httptools.HttpParserError) -> Problem:
    if isinstance(error, httptools.HttpParserCallbackError):
        return Problem("bad_request", "The request is not valid.")
    reason = str(error) or "it cannot be parsed"
    if "PRI/Upgrade" in reason:
        return Problem("bad_request", "HTTP/1.1, please.", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    return Problem("bad_request", f"That is not HTTP/1.1: {reason}.")


def _head_too_large(most: int) -> Problem:
    detail = f"The headers of a request have at most {most} bytes."
    return Problem("bad_request", detail, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _status(problem: Problem) -> int:
    return problem.response().status_code


def _shown(client: tuple[str, int] | None) -> str | None:
    return client[0] if client else None
