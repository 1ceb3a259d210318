"""A web site with one page, in which everything is wrong that must not be in a page of ours."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src *"
_PAGE = b"""<!doctype html><html><title>A page</title><link rel="stylesheet" href="/pale.css">
<p style="color: red">Some words that are too pale.</p>
<img src="/gone.png"><img src="http://127.0.0.1:9/elsewhere.png"><script src="/fails.js"></script></html>"""
_FILES = {
    "/": ("text/html", _PAGE),
    "/pale.css": ("text/css", b"p { color: #ddd }"),
    "/fails.js": ("text/javascript", b"console.error('said'); throw Error('thrown')"),
}


class FlawedSite:
    """The site, at `url` while it is entered."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _FlawedHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _FlawedHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, content = _FILES.get(self.path, ("", b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", _POLICY)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""
