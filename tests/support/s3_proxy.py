"""A proxy before an S3 server that answers in its place, or spoils its answers, as often as it is told."""

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal[
    "SlowDown",
    "InternalError",
    "AccessDenied",
    "ExpiredToken",
    "AuthorizationHeaderMalformed",
    "cut",
    "lost reply",
    "half a body",
    "error in 200",
    "html",
    "short list",
    "list with a gap",
    "no conditions",
]
_REFUSALS = {
    "SlowDown": (503, "Please reduce your request rate."),
    "InternalError": (500, "We encountered an internal error."),
    "AccessDenied": (403, "Access Denied"),
    "ExpiredToken": (400, "The provided token has expired."),
    "AuthorizationHeaderMalformed": (
        400,
        "The region &apos;us-east-1&apos; is wrong; expecting &apos;eu-3&apos;",
    ),
}
_OBJECT = re.compile(rb"(<Contents>.*?</Contents>)", re.DOTALL)
_HTML = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
ALWAYS = 10**9


class S3Proxy(ThreadingHTTPServer):
    """Stands before a server; `requests` are the methods and paths that came."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = endpoint.removeprefix("http://")
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._left, self._of = 0, re.compile("")
        self._first: tuple[re.Pattern[str], Callable[[], object]] | None = None
        self._then: tuple[re.Pattern[str], Callable[[], object]] | None = None

    def strike(self, fault: Fault, times: int = ALWAYS, of: str = "") -> None:
        """Do that to the next requests whose "METHOD path" matches."""
        with self._lock:
            self._fault, self._left, self._of = fault, times, re.compile(of)

    def rest(self) -> None:
        """Let all pass again."""
        self.strike("cut", 0)

    def before(self, request: str, do: Callable[[], object]) -> None:
        """Do something in the moment before the next request whose "METHOD path" matches is passed on."""
        with self._lock:
            self._first = (re.compile(request), do)

    def after(self, request: str, do: Callable[[], object]) -> None:
        """Do something once the next request whose "METHOD path" matches is done, before its answer."""
        with self._lock:
            self._then = (re.compile(request), do)

    def done(self, method: str, path: str) -> None:
        """The server has answered that request."""
        with self._lock:
            if self._then and self._then[0].search(f"{method} {path}"):
                _, do = self._then
                self._then = None
                do()

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            if self._first and self._first[0].search(f"{method} {path}"):
                _, do = self._first
                self._first = None
                do()
            if not self._left or not self._of.search(f"{method} {path}"):
                return None
            self._left -= 1
            return self._fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who is cut off is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault_of(self.command, self.path)
        if fault == "cut":
            self.close_connection = True
        elif fault in _REFUSALS:
            status, message = _REFUSALS[fault]
            text = f"<Error><Code>{fault}</Code><Message>{message}</Message></Error>"
            self._send(status, text.encode())
        elif fault == "error in 200":
            self._send(200, b"<Error><Code>InternalError</Code></Error>")
        elif fault == "html":
            self._send(200, _HTML, {"Content-Type": "text/html"})
        else:
            self._pass(body, fault)

    def _pass(self, body: bytes, fault: Fault | None) -> None:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        asked = {
            name: value
            for name, value in self.headers.items()
            if fault != "no conditions" or not name.lower().startswith("if-")
        }
        try:
            upstream.request(self.command, self.path, body, asked)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        self.server.done(self.command, self.path)
        if fault == "lost reply":
            self.close_connection = True
            return
        if fault == "short list":
            first, _, _ = content.partition(b"</Contents>")
            first = first.replace(b"<IsTruncated>false", b"<IsTruncated>true")
            content = first + b"</Contents></ListBucketResult>"
        if fault == "list with a gap":
            parts = _OBJECT.split(content)  # what is between objects, and each of them
            content = b"".join(parts[:3] + parts[4:])
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _OWN}
        self._send(
            answer.status, content, headers, answer.getheader("Content-Length"), half=fault == "half a body"
        )

    def _send(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        length: str | None = None,
        *,
        half: bool = False,
    ) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header("Content-Length", length or "0" if is_head else str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


for _method in ("HEAD", "PUT", "DELETE", "POST"):
    setattr(_Handler, f"do_{_method}", _Handler.do_GET)
_OWN = ("content-length", "transfer-encoding", "connection")


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[S3Proxy]:
    """One before that server, in threads of its own."""
    proxy = S3Proxy(endpoint)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join(5)
