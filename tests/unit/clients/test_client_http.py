"""What the Python client makes of HTTP servers that are none of media-worker's, or stand before one."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from media_worker_client import AsyncHttpMediaClient, HttpMediaClient, MediaError, MediaTimeout

UPLOAD = "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"
READY = b'{"id": "%s", "state": "ready"}' % UPLOAD.encode()


class Said(NamedTuple):
    """What a server says to one request; with the status 0, nothing."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class SayingServer(ThreadingHTTPServer):
    """Says one thing after the other, the last one again and again."""

    def __init__(self, said: tuple[Said, ...]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.said = list(said)
        self.heard: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    server: SayingServer

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.heard.append((self.command, self.path, body))
        said = self.server.said.pop(0) if len(self.server.said) > 1 else self.server.said[0]
        if said.status == 0:
            return
        self.send_response(said.status)
        for header in said.headers:
            self.send_header(*header)
        self.send_header("Content-Length", str(len(said.body)))
        self.end_headers()
        self.wfile.write(said.body)

    do_GET = do_POST = do_DELETE = do_any  # noqa: N815 (the names that the library calls)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def server_that_says(*said: Said) -> Iterator[SayingServer]:
    with SayingServer(said) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def client_of(server: SayingServer, **options: Any) -> tuple[HttpMediaClient, list[float]]:
    pauses: list[float] = []
    return HttpMediaClient(server.url, "mw_key", sleep=pauses.append, **options), pauses


VERBS: dict[str, Callable[[HttpMediaClient], object]] = {
    "upload": lambda http: http.upload(b"a picture"),
    "status": lambda http: http.status(UPLOAD),
    "delete": lambda http: http.delete(UPLOAD),
    "token": lambda http: http.token(),
    "limits": lambda http: http.limits(),
    "events": lambda http: list(http.events()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_redirect_is_told_and_nothing_is_sent_there(verb: str) -> None:
    moved = Said(301, b"<html>", (("Location", "https://media.example.com/v1/uploads"),))
    with server_that_says(moved) as server:
        http, pauses = client_of(server)
        with pytest.raises(MediaError, match=r"redirected: .* https://media\.example\.com/v1") as refused:
            VERBS[verb](http)

    assert (refused.value.status, len(server.heard), pauses) == (301, 1, [])


@pytest.mark.parametrize("body", [b"<html>Welcome to nginx!", b"", b"[]", b'"yes"', b"\xff"])
@pytest.mark.parametrize("verb", ["upload", "status", "token", "limits", "events"])
def test_a_server_of_something_else_is_told(verb: str, body: bytes) -> None:
    with server_that_says(Said(200, body)) as server:
        http, _ = client_of(server)
        with pytest.raises(MediaError, match=r"unexpected_answer: .* the URL of media serve") as refused:
            VERBS[verb](http)

    assert refused.value.status == 200


def test_a_deletion_whose_answer_was_lost_is_one() -> None:
    gone = Said(404, b'{"code": "not_found", "detail": "There is no such upload."}')
    with server_that_says(Said(0), gone) as server:
        http, _ = client_of(server)
        http.delete(UPLOAD)
        with pytest.raises(MediaError, match="not_found"):
            http.delete(UPLOAD)

    assert [method for method, _, _ in server.heard] == ["DELETE"] * 3


@pytest.mark.parametrize(
    ("given", "pause_s"), [("3", 3.0), ("12", 12.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.5), ("²", 0.5)]
)
def test_the_pause_that_a_server_asks_for_is_made(given: str, pause_s: float) -> None:
    busy = Said(503, b"", (("Retry-After", given),))
    with server_that_says(busy, Said(200, READY)) as server:
        http, pauses = client_of(server)
        upload = http.status(UPLOAD)

    assert upload is not None
    assert pauses == [pause_s]


def test_a_server_that_asks_for_a_longer_pause_than_an_answer_may_take_is_not_asked_again() -> None:
    busy = Said(429, b'{"code": "rate_limited", "detail": "Too many."}', (("Retry-After", "61"),))
    with server_that_says(busy) as server:
        http, pauses = client_of(server)
        with pytest.raises(MediaError, match="rate_limited"):
            http.status(UPLOAD)

    assert (len(server.heard), pauses) == (1, [])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_who_resets_connections_is_out_of_reach(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            for _ in range(4):
                connection, _ = listener.accept()
                connection.recv(1)
                linger = b"\x01\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(MediaError, match="unreachable"):
            HttpMediaClient(url, sleep=lambda _: None).upload(b"a picture")
        thread.join()


def test_a_server_that_never_answers_is_told_as_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(MediaTimeout, match="did not answer in time"):
            HttpMediaClient(url, timeout=0.05, sleep=lambda _: None).limits()


@pytest.mark.parametrize("key", ["mw_secret\n", "mw_secret\r\nX-Owner: root", "mw_sécret€"])
def test_a_key_that_no_header_may_have_is_refused_without_telling_it(key: str) -> None:
    with pytest.raises(ValueError, match="line break") as refused:
        HttpMediaClient("http://127.0.0.1", key)

    assert "mw_s" not in str(refused.value)


def test_pictures_come_as_bytes_as_paths_and_as_open_files(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"a picture")
    busy = Said(503)
    with server_that_says(busy, *[Said(201, READY)] * 5, busy, Said(201, READY)) as server:
        http, _ = client_of(server)
        with path.open("rb") as file:
            file.read(3)
            pictures: tuple[Any, ...] = (
                b"a picture",
                bytearray(b"a picture"),
                path,
                str(path),
                file,
                io.BytesIO(b"a picture"),
            )
            for picture in pictures:
                assert http.upload(picture).state == "ready"
            assert not file.closed
        with path.open() as text, pytest.raises(TypeError, match="binary"):
            http.upload(text)  # type: ignore[arg-type]

    assert {body for _, _, body in server.heard} == {b"a picture"}


async def test_the_asynchronous_client_says_the_same() -> None:
    with server_that_says(Said(200, b"<html>")) as server:
        http = AsyncHttpMediaClient(server.url)
        with pytest.raises(MediaError, match="unexpected_answer"):
            await http.limits()
        with pytest.raises(MediaError, match="unexpected_answer"):
            [message async for message in http.events()]
