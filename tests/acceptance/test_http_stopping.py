"""How `media serve` stops: streams end, uploads in flight may finish, and nothing of it is an error."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.face import FaceProcess, new_secret, start_face
from tests.support.raw_http import connect_to, read_answer
from tests.support.served import catalog_url, installed
from tests.support.workplace import Workplace, eventually

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = (
    b"POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
    b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
)
PICTURE = pictures.small()


def assert_quiet(face: FaceProcess) -> None:
    assert "Traceback" not in face.text
    assert [line for line in face.log if line["level"] in ("error", "critical")] == []
    assert "uvicorn" not in face.text.lower()
    assert "server process" not in face.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_closes_what_is_idle_and_exits_with_0(
    workplace: Workplace, number: signal.Signals
) -> None:
    face = start_face(workplace)
    with closing(connect_to(face.url)) as idle:
        idle.sendall(GET)
        assert read_answer(idle).status == 200
        face.signal(number)

        assert idle.recv(1) == b""
    assert face.wait() == 0
    assert [line["event"] for line in face.log][-1] == "http_stopped"
    assert_quiet(face)


def test_a_server_stops_before_its_catalog_was_ever_there(workplace: Workplace) -> None:
    face = start_face(workplace, ready=False, MEDIA_CATALOG_URL="sqlite+aiosqlite:////none/catalog.db")
    face.await_log("http_waits")

    assert face.stop() == 0
    assert_quiet(face)


@pytest.fixture
def place(redis_server: RedisServer, migrated: Path, tmp_path: Path) -> Iterator[Workplace]:
    place = installed(tmp_path, redis_server.url, migrated)
    yield place
    place.close()


def begin_upload(face: FaceProcess) -> socket.socket:
    """An upload of which the server has begun to read the body."""
    connection = connect_to(face.url)
    connection.sendall(HEAD % len(PICTURE))
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(PICTURE[:-1])
    return connection


def takes_nobody(face: FaceProcess) -> bool:
    try:
        connect_to(face.url).close()
    except ConnectionError:
        return True
    return False


def test_an_upload_in_flight_is_finished_and_nothing_else_is_begun(place: Workplace) -> None:
    face = start_face(place)
    with closing(begin_upload(face)) as upload:
        face.signal(signal.SIGTERM)
        face.await_log("http_stops")
        eventually(lambda: takes_nobody(face))
        upload.sendall(PICTURE[-1:])
        answer = read_answer(upload)

    assert answer.status == 201
    assert answer.headers["connection"] == "close"
    assert face.wait() == 0
    assert face.logged("http_request")[-1]["status"] == 201
    assert face.logged("http_cut") == []
    assert_quiet(face)


def test_an_upload_that_lasts_longer_than_the_wait_is_cut_and_no_error(place: Workplace) -> None:
    face = start_face(place, MEDIA_SHUTDOWN_WAIT="1")
    with closing(begin_upload(face)):
        began = time.monotonic()
        face.signal(signal.SIGTERM)

        assert face.wait() == 0
    assert time.monotonic() - began < 5
    assert face.logged("http_cut")[0]["connections"] == 1
    assert face.logged("http_request")[-1]["aborted"] is True
    assert_quiet(face)


def test_a_second_signal_ends_at_once(place: Workplace) -> None:
    face = start_face(place, MEDIA_SHUTDOWN_WAIT="60")
    with closing(begin_upload(face)):
        face.signal(signal.SIGTERM)
        face.await_log("http_stops")
        began = time.monotonic()
        face.signal(signal.SIGTERM)

        assert face.wait() == 0
    assert time.monotonic() - began < 5
    assert_quiet(face)


def listens_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_a_server_that_stops_leaves_its_socket_to_the_one_that_comes_after(
    place: Workplace, tmp_path: Path
) -> None:
    path = tmp_path / "media.sock"
    secret = asyncio.run(new_secret(catalog_url(place)))
    first = start_face(place, MEDIA_HTTP_BIND=f"unix:{path}", MEDIA_SHUTDOWN_WAIT="60")
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.connect(str(path))
        stuck.sendall((HEAD % 30)[:-2] + b"Authorization: Bearer %s\r\n\r\n" % secret.encode())
        assert stuck.recv(12) == b"HTTP/1.1 100"
        first.signal(signal.SIGTERM)
        eventually(lambda: not listens_at(path))
        second = start_face(place, MEDIA_HTTP_BIND=f"unix:{path}")
    assert first.wait() == 0

    assert listens_at(path)
    assert second.stop() == 0
    assert not path.exists()
