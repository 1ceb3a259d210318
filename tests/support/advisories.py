"""A service of advisories on this machine, that knows what a test tells it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Advisories:
    """What is known, by package, and of which packages and versions somebody has asked."""

    def __init__(self, known: Mapping[str, str], url: str) -> None:
        self.known = known
        self.url = url
        self.asked: set[tuple[str, str]] = set()

    def answer(self, query: Mapping[str, object]) -> object:
        """As OSV does."""
        package, version = query["package"], query["version"]
        assert isinstance(package, dict)
        name = str(package["name"])
        self.asked.add((name, str(version)))
        if name not in self.known:
            return {}
        affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "99.0"}]}]}
        dated = {"published": "2026-10-21T00:00:00Z", "modified": "2026-10-21T00:00:00Z"}
        return {"vulns": [{"id": self.known[name], "summary": "x", "affected": [affected], **dated}]}


@contextmanager
def serve_advisories(known: Mapping[str, str]) -> Iterator[Advisories]:
    """Serve them on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps(service.answer(query)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = Advisories(known, f"http://127.0.0.1:{server.server_port}/v1/query")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
