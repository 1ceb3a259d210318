"""A web site of a few files, such as pages of somebody else."""

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

TYPES = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript"}


class StaticSite(ThreadingHTTPServer):
    """Serves these files, by their paths, at `port` while it is entered."""

    def __init__(self, files: Mapping[str, str], policy: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _StaticHandler)
        self.files = files
        self.policy = policy
        self.port = self.server_port
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _StaticHandler(BaseHTTPRequestHandler):
    server: StaticSite

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", TYPES.get(self.path.rpartition(".")[2], ""))
        if self.server.policy:
            self.send_header("Content-Security-Policy", self.server.policy)
        self.end_headers()
        self.wfile.write((content or "").encode())

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""
