"""How `media serve` stops: streams end, uploads in flight may finish, and nothing of it is an error."""

import signal
import time
from contextlib import closing

import pytest

from tests.support.face import FaceProcess, start_face
from tests.support.raw_http import connect_to, read_answer
from tests.support.workplace import Workplace

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = b"POST /v1/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30\r\n\r\n"


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


def test_what_lasts_longer_than_the_wait_is_cut_and_no_error(workplace: Workplace) -> None:
    face = start_face(workplace, MEDIA_SHUTDOWN_WAIT="1")
    with closing(connect_to(face.url)) as stuck:
        stuck.sendall(HEAD + b"{")
        with closing(connect_to(face.url)) as other:
            other.sendall(GET)
            read_answer(other)
        began = time.monotonic()
        face.signal(signal.SIGTERM)
        assert face.wait() == 0

    assert time.monotonic() - began < 4
    assert_quiet(face)


def test_a_second_signal_ends_at_once(workplace: Workplace) -> None:
    face = start_face(workplace, MEDIA_SHUTDOWN_WAIT="60")
    with closing(connect_to(face.url)) as stuck:
        stuck.sendall(HEAD + b"{")
        face.signal(signal.SIGTERM)
        face.await_log("http_stops")
        face.signal(signal.SIGTERM)
        began = time.monotonic()

        assert face.wait() == 0
    assert time.monotonic() - began < 3
    assert_quiet(face)
