"""The access log: one line a request, without anything secret."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.http.problems import problem_of
from worker.traceparent import parse_traceparent, trace_id_of

log = structlog.get_logger(__name__)

_LONGEST = 500  # characters of a path with its query
_HIDDEN = "…"
_PARAMETERS = re.compile(r"(?<=[?&])([^=&]*)=([^&]*)")
_SECRET_NAME = re.compile(r"token|signature|expires|secret|passw|key|auth|credential", re.IGNORECASE)
# A key or a token, wherever somebody has put it.
_SECRET = re.compile(r"mw_[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PROBES = ("/healthz", "/readyz")
_UPLOAD = re.compile(r"/v1/uploads/([0-9a-f-]{36})(?![0-9a-f-])")
UNIX = "unix"  # whoever connects to a socket in a folder


@dataclass(frozen=True)
class Proxies:
    """Proxies whose X-Forwarded-For is believed."""

    networks: Sequence[IPv4Network | IPv6Network] = ()
    by_socket: bool = False

    @classmethod
    def parse(cls, names: Sequence[str]) -> "Proxies":
        """Of addresses, networks, and `unix`."""
        return cls([ip_network(name) for name in names if name != UNIX], UNIX in names)

    def client(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """The address of whoever asks: the last that no proxy of ours has."""
        addresses = [part.strip() for line in forwarded for part in line.split(",")]
        while self.believes(peer) and addresses:
            address = addresses.pop()
            if not _is_address(address):
                break
            peer = address
        return peer

    def believes(self, peer: str | None) -> bool:
        """Whether that peer is believed whom it asks for; None: whoever came by a socket in a folder."""
        if not peer:
            return self.by_socket
        if not self.networks or not _is_address(peer):
            return False
        address = ip_address(peer)
        return any(address in network for network in self.networks)


class AccessLog:
    """Logs each request once it is over, and answers where nothing else could."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies
        self._bound = log.bind()  # once, as that takes long

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the app, and log it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = _Exchange(scope, receive, send)
        try:
            await self._app(scope, request.receive, request.send)
        except Exception as error:
            if not request.failure_is_logged:
                log.exception("request_crashed")
            if scope["type"] != "http" or request.started:
                request.is_aborted = request.is_aborted or not request.completed
                if not request.completed:
                    raise  # so that the connection is closed
            else:
                await problem_of(error).response()(scope, receive, request.send)
        finally:
            self._log(scope, request)

    def _log(self, scope: Scope, request: "_Exchange") -> None:
        status, path = request.status, scope["path"]
        if path in _PROBES and status is not None and status < 300:
            return
        headers = _headers(scope, b"traceparent", b"x-forwarded-for")
        peer = scope.get("client")
        line = {
            "method": scope.get("method", "GET"),
            "path": shown_target(scope),
            "route": getattr(scope.get("route"), "path", None),
            "status": status,
            "ms": round((time.perf_counter() - request.began) * 1000, 1),
            "bytes_in": request.bytes_in,
            "bytes_out": request.bytes_out,
            "client": self._proxies.client(peer[0] if peer else None, headers[b"x-forwarded-for"]),
        }
        if (caller := scope.get("media.caller")) is not None:
            line["key"] = caller.name
        if upload := scope.get("media.upload") or request.upload or _upload_in(path):
            line["upload"] = str(upload)
        if traceparent := parse_traceparent(b",".join(headers[b"traceparent"]).decode("latin-1")):
            line["trace_id"] = trace_id_of(traceparent)
        if request.is_aborted:
            line["aborted"] = True
        self._bound.info("http_request", **line)


class _Exchange:
    """What one request has received and sent."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began = time.perf_counter()
        self.status: int | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.upload: str | None = None
        self.started = False
        self.completed = False
        self.is_aborted = False
        self._scope = scope
        self._receive = receive
        self._send = send

    @property
    def failure_is_logged(self) -> bool:
        """Whether whoever has answered has logged it, too."""
        return self._scope.get("media.logged", False) is True

    async def receive(self) -> Message:
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            self.bytes_in += len(message.get("body", b""))
        elif kind == "http.disconnect" and not self.completed:
            self.is_aborted = True
        elif kind == "websocket.receive":
            self.bytes_in += len(message.get("bytes") or message.get("text") or "")
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.started, self.status = True, message["status"]
            self.upload = _announced(message.get("headers", ()))
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self.bytes_out += len(message.get("body", b""))
            self.completed = not message.get("more_body", False)
        elif kind == "websocket.accept":
            self.started, self.status = True, 101
        elif kind == "websocket.send":
            self.bytes_out += len(message.get("bytes") or message.get("text") or "")
        elif kind == "websocket.close":
            self.status = self.status or 403
            self.completed = True
        await self._send(message)


def shown_target(scope: Scope) -> str:
    """The path and the query of a request, escaped, and without what is secret."""
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    query = scope.get("query_string", b"")
    text = (path + (b"?" + query if query else b"")).decode("latin-1")[: 4 * _LONGEST]
    text = _PARAMETERS.sub(_without_value, text)
    if _SECRET.search(unquote_to_bytes(text).decode("latin-1")):
        text = _SECRET.sub(_HIDDEN, unquote_to_bytes(text).decode("latin-1"))
    if not text.isprintable():
        text = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + _HIDDEN


def _without_value(found: re.Match[str]) -> str:
    name = unquote_to_bytes(found[1]).decode("latin-1")
    return f"{found[1]}={_HIDDEN}" if _SECRET_NAME.search(name) else found[0]


def _headers(scope: Scope, *names: bytes) -> dict[bytes, list[Any]]:
    found: dict[bytes, list[Any]] = {name: [] for name in names}
    for name, value in scope["headers"]:
        if name in found:
            found[name].append(value if name == b"traceparent" else value.decode("latin-1"))
    return found


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The upload that a Location names."""
    return next(
        (_upload_in(value.decode("latin-1")) for name, value in headers if name.lower() == b"location"), None
    )


def _upload_in(path: str) -> str | None:
    found = _UPLOAD.search(path)
    return found[1] if found else None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
