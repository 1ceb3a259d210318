"""An nginx with deploy/nginx/media.conf before an app and a storage root."""

import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from scripts.processes import free_port, launch, stop, tail
from tests.support.clients import package_missing
from tests.support.deployment import DEPLOY

CONF = DEPLOY / "nginx/media.conf"
_START_S = 10.0
_MAIN = """
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/media.conf;
}}
"""


class AppBehindNginx(ThreadingHTTPServer):
    """An app whose answers a test chooses, by path; it remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _AppHandler)
        self.answers: dict[str, tuple[Mapping[str, str], bytes]] = {}
        self.asked: list[tuple[str, str, Mapping[str, str], int]] = []


class _AppHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AppBehindNginx

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), len(body)))
        known = self.server.answers.get(self.path)
        headers, content = known or ({}, b"{}")
        self.send_response(200 if known else 404)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (the base class has these names)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@dataclass(frozen=True)
class WebServer:
    """The nginx, with its storage root and the app behind it."""

    port: int
    root: Path
    app: AppBehindNginx = field(repr=False)

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers with names in lower case, and body of an answer; the path goes as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        assert len({name.lower() for name, _ in answer.getheaders()}) == len(answer.getheaders()), (
            "one of each"
        )
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read


@contextmanager
def deployed_nginx(
    folder: Path, serve: str | None = None, edited: Callable[[str], str] = str
) -> Iterator[WebServer]:
    """The file as it is, but for the addresses and the storage root that it tells one to change.

    `serve` is the address of `media serve`, otherwise of the app, too; `edited` changes the file before.
    """
    executable = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if executable is None:
        package_missing("no nginx: apt-get install nginx-light")
    app, port, root = AppBehindNginx(), free_port(), folder / "media"
    thread = threading.Thread(target=app.serve_forever, daemon=True)
    thread.start()
    changes = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "127.0.0.1:8080": serve or f"127.0.0.1:{app.server_port}",
        "127.0.0.1:8000": f"127.0.0.1:{app.server_port}",
    }
    text = edited(CONF.read_text()).replace("/srv/media", str(root))
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "media.conf").write_text(text)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    run_as = "user root;" if os.geteuid() == 0 else ""  # the folders of tests are for their owner alone
    options = ["-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
    process = launch([executable, *options, "-g", f"daemon off; {run_as}"], subprocess.DEVNULL)
    try:
        _await_listener(port, folder / "error.log")
        yield WebServer(port, root, app)
    finally:
        stop(process)
        app.shutdown()
        app.server_close()
        thread.join()


def _await_listener(port: int, log: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until, tail(log)
            time.sleep(0.01)
        else:
            return
