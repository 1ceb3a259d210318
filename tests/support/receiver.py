"""An app that receives webhooks: it keeps what it is sent, and answers as a test says."""

import json
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import new
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + b64encode(bytes(range(32, 64))).decode()
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Hook:
    """A request that came: its headers, by names in lower case, and its body."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The message in it."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed_by(self, secret: str) -> bool:
        """Whether one of its signatures is that secret's, by the words of the specification."""
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = b64decode(secret.removeprefix("whsec_"))
        wanted = "v1," + b64encode(new(key, content, sha256).digest()).decode()
        return wanted in self.headers["webhook-signature"].split(" ")


@dataclass(frozen=True)
class HookReply:
    """What a request is answered."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class HookReceiver:
    """What came so far, and how it is answered: by `answer`, in the thread of each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Callable[[Hook], HookReply] = lambda _: HookReply()
        self.in_hand = self.most_in_hand = 0
        self._hooks: list[Hook] = []
        self._taken: list[Hook] = []
        self._changed = threading.Condition()

    @property
    def settings(self) -> dict[str, str]:
        """Variables of a worker that posts its messages here."""
        return {
            "MEDIA_WEBHOOK_URL": self.url,
            "MEDIA_WEBHOOK_SECRET": SECRET,
            "MEDIA_WEBHOOK_ALLOW_PRIVATE": "1",
        }

    @property
    def hooks(self) -> Sequence[Hook]:
        """All that came."""
        with self._changed:
            return list(self._hooks)

    @property
    def taken(self) -> Sequence[Hook]:
        """Those that were answered with 2xx, in the order of the answers."""
        with self._changed:
            return list(self._taken)

    def taken_seqs(self, upload_id: object = None) -> list[int]:
        """The `seq` of what was taken, of one upload or of all."""
        messages = [hook.message for hook in self.taken]
        return [one["seq"] for one in messages if upload_id is None or one["id"] == str(upload_id)]

    def await_that(self, holds: Callable[[], object], within: float = PATIENCE_S) -> None:
        """Wait until that holds, which is asked after each request and each answer."""
        with self._changed:
            assert self._changed.wait_for(holds, within), [hook.message for hook in self._hooks]

    def receive(self, hook: Hook) -> HookReply:
        """Keep a request, and say what it is answered."""
        with self._changed:
            self._hooks.append(hook)
            self.in_hand += 1
            self.most_in_hand = max(self.most_in_hand, self.in_hand)
            self._changed.notify_all()
        reply = self.answer(hook)
        with self._changed:
            self.in_hand -= 1
            if 200 <= reply.status < 300:
                self._taken.append(hook)
            self._changed.notify_all()
        return reply


@contextmanager
def receiving(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[HookReceiver]:
    """A receiver that listens on 127.0.0.1; a TLS context makes its URL one of https."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = PATIENCE_S

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            if len(body := self.rfile.read(length)) < length:
                return  # its sender was killed
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = receiver.receive(Hook(self.path, headers, body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that has gone, or does not trust the certificate."""

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "http" if tls is None else "https"
        receiver = HookReceiver(f"{scheme}://127.0.0.1:{server.server_port}/hooks")
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
