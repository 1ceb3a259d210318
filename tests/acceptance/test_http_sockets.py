"""`media serve` and what comes over bare sockets: a problem answers it, or it is cut; nothing runs twice."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from scripts.redis_server import RedisServer
from tests.support.face import FaceProcess, start_face
from tests.support.raw_http import RawAnswer, ask, connect_to, read_answer, read_answers
from tests.support.workplace import Workplace, database_on

CHUNKED = b"POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MOST = 12  # connections


@pytest.fixture(scope="module")
def face(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaceProcess]:
    place = Workplace(tmp_path_factory.mktemp("face"), database_on(redis_server.url), migrated)
    yield start_face(place, ready=False, MEDIA_HTTP_CONNECTIONS=str(MOST))
    place.close()


@pytest.fixture(scope="module")
def slow(face: FaceProcess) -> Iterator[tuple[socket.socket, float]]:
    """A connection that begins a head and never ends it, with the time of its beginning."""
    face.await_log("http_ready")
    with closing(connect_to(face.url)) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        yield connection, began


@pytest.fixture(autouse=True)
def begins_early(slow: object) -> None:
    """The slow one begins before all tests, so that the one about it need not wait."""


def problem(answer: RawAnswer) -> tuple[int, str]:
    """The status and the code of an answer that is a problem and says what it is."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    body = json.loads(answer.body)
    assert body["status"] == answer.status
    assert body["detail"]
    return answer.status, body["code"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\nHost: a\n\n", 400, id="line ends of LF"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\n\r\n", 400, id="a header ends with LF"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400, id="NUL in a value"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 400, id="NUL in a name"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400, id="CR in a value"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n", 400, id="a header that begins with a space"
        ),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", 400, id="space before a colon"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, id="a folded header"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two Hosts"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, id="a Host that is none"),
        pytest.param(b"GET /healthz\r\n\r\n", 505, id="HTTP/0.9"),
        pytest.param(b"GET /healthz HTTP/1.2\r\nHost: a\r\n\r\n", 400, id="HTTP/1.2"),
        pytest.param(b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="HTTP/2 as text"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="the preface of HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
        pytest.param(b"get /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a method in small letters"),
        pytest.param(b"GET\t/healthz\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, id="tabs for spaces"),
        pytest.param(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a target that is not ASCII"),
        pytest.param(b"GET http://b/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a URL of another host"),
        pytest.param(b"GET ftp://a/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a URL of another kind"),
        pytest.param(b"DESCRIBE rtsp://a RTSP/1.0\r\n\r\n", 400, id="RTSP"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="an asterisk"),
        pytest.param(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, id="a tunnel"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="a huge URL"),
        pytest.param(b"GET /" + b"a" * 20_000, 414, id="a URL without end"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431, id="a huge header"
        ),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 400_000, 431, id="one without end"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431, id="many headers"
        ),
    ],
)
def test_a_head_that_is_none_is_answered_with_a_problem(face: FaceProcess, sent: bytes, status: int) -> None:
    answer = ask(face.url, sent)

    assert problem(answer) == (status, "bad_request")


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param(b"Content-Length: 3\r\nTransfer-Encoding: chunked", id="both"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 3", id="both the other way round"),
        pytest.param(b"Content-Length: 3\r\nContent-Length: 4", id="two lengths"),
        pytest.param(b"Content-Length: 3, 4", id="a list of lengths"),
        pytest.param(b"Content-Length: -3", id="a negative length"),
        pytest.param(b"Content-Length: +3", id="a length with a sign"),
        pytest.param(b"Content-Length: 0x3", id="a hexadecimal length"),
        pytest.param(b"Content-Length: ", id="an empty length"),
        pytest.param(b"Content-Length: 99999999999999999999999", id="a length beyond all numbers"),
        pytest.param(b"Transfer-Encoding: identity", id="identity"),
        pytest.param(b"Transfer-Encoding: gzip, chunked", id="compressed"),
        pytest.param(b"Transfer-Encoding: chunked, chunked", id="chunks of chunks"),
        pytest.param(b"Transfer-Encoding: xchunked", id="another encoding"),
        pytest.param(b"Transfer-Encoding: \x0bchunked", id="one behind a control character"),
        pytest.param(b"Transfer-Encoding : chunked", id="one behind a space"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", id="two encodings"),
    ],
)
def test_a_length_that_may_be_read_in_two_ways_is_refused_and_the_rest_is_not_read(
    face: FaceProcess, framing: bytes
) -> None:
    sent = b"POST /v1/nothing HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n0\r\n\r\n" + GET

    with closing(connect_to(face.url)) as connection:
        connection.sendall(sent)
        answers = read_answers(connection)

    assert len(answers) == 1
    assert problem(answers[0])[1] == "bad_request"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"zz\r\n", id="no number"),
        pytest.param(b"0x3\r\nabc\r\n", id="a prefix"),
        pytest.param(b"-3\r\nabc\r\n", id="a negative number"),
        pytest.param(b"ffffffffffffffffff\r\nabc\r\n", id="a number beyond all numbers"),
        pytest.param(b"3\r\nabcdef\r\n0\r\n\r\n", id="more than was said"),
        pytest.param(b"3\nabc\n0\n\n", id="line ends of LF"),
        pytest.param(b"3;a=b\nabc\r\n0\r\n\r\n", id="an extension that ends with LF"),
        pytest.param(b"3;" + b"a" * 300_000, id="an extension without end"),
        pytest.param(b"3;a=" + b"b" * 5000 + b"\r\nabc\r\n" * 1, id="long extensions"),
        pytest.param(b"0\r\n" + b"X: y\r\n" * 60_000, id="trailers without end"),
    ],
)
def test_chunks_that_are_none_end_the_connection(face: FaceProcess, body: bytes) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(CHUNKED + body * (40 if b"=bbb" in body else 1) + GET)
        answers = read_answers(connection)

    assert [answer.status for answer in answers] in ([404], [400])
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)


def test_trailers_are_no_headers(face: FaceProcess) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: Bearer mw_x\r\n\r\n" + GET)
        first, second = read_answer(connection), read_answer(connection)

    assert (first.status, second.status) == (404, 200)


def test_a_url_of_the_very_host_is_a_target_too(face: FaceProcess) -> None:
    answer = ask(face.url, b"GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


def test_requests_that_come_together_are_answered_in_order(face: FaceProcess) -> None:
    missing = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"
    with closing(connect_to(face.url)) as connection:
        connection.sendall(GET + missing + GET)
        answers = [read_answer(connection) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 404, 200]


def test_junk_after_a_request_does_not_mix_with_its_answer(face: FaceProcess) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(GET + b"\x00\x01junk")
        answers = read_answers(connection)

    assert answers[0].status == 200
    assert json.loads(answers[0].body) == {"status": "ok"}
    assert [answer.status for answer in answers[1:]] in ([], [400])


def test_too_many_requests_at_once_are_not_kept(face: FaceProcess) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(GET * 3000)
        answers = read_answers(connection)

    assert len(answers) < 30


@pytest.mark.parametrize("protocol", [b"h2c", b"TLS/1.2", b"websocket2"])
def test_another_protocol_is_not_spoken_and_what_follows_in_it_is_not_read(
    face: FaceProcess, protocol: bytes
) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: " + protocol
    with closing(connect_to(face.url)) as connection:
        connection.sendall(head + b"\r\n\r\n" + GET)
        answers = read_answers(connection)

    assert [answer.status for answer in answers] == [200]
    assert answers[0].headers["connection"] == "close"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"POST /v1/events/ws HTTP/1.1\r\nContent-Length: 66", id="a body"),
        pytest.param(b"POST /v1/events/ws HTTP/1.1\r\nTransfer-Encoding: chunked", id="chunks"),
        pytest.param(b"GET /healthz HTTP/1.1", id="no key"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nSec-WebSocket-Version: 7", id="an old version"),
    ],
)
def test_a_websocket_that_is_none_is_refused(face: FaceProcess, head: bytes) -> None:
    upgrade = b"\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with closing(connect_to(face.url)) as connection:
        connection.sendall(head + upgrade + GET)
        answers = read_answers(connection)

    assert len(answers) == 1
    assert 400 <= answers[0].status < 500


def test_of_too_many_connections_the_one_that_is_idle_longest_is_closed(face: FaceProcess) -> None:
    oldest = connect_to(face.url)
    oldest.sendall(GET)
    assert read_answer(oldest).status == 200
    others = [connect_to(face.url) for _ in range(MOST)]
    try:
        assert oldest.recv(1) == b""
        others[-1].sendall(GET)
        assert read_answer(others[-1]).status == 200
    finally:
        for each in (oldest, *others):
            each.close()
    assert face.await_log("http_connections_too_many")["most"] == MOST


def test_where_all_connections_are_busy_one_more_is_told_to_come_later(face: FaceProcess) -> None:
    busy = [connect_to(face.url) for _ in range(MOST - 1)]  # the slow one is one, too
    try:
        for each in busy:
            each.sendall(b"GET /healthz HTTP/1.1\r\n")
        time.sleep(0.1)  # nothing tells that the heads were begun
        with closing(connect_to(face.url)) as surplus:
            answer = read_answer(surplus)
    finally:
        for each in busy:
            each.close()

    assert problem(answer) == (503, "busy")
    assert answer.headers["retry-after"]


def test_many_clients_at_once_are_all_answered(face: FaceProcess) -> None:
    def get(_: int) -> int:
        return httpx.get(f"{face.url}/healthz", trust_env=False).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(get, range(40))) == {200}


def test_a_head_that_takes_more_than_ten_seconds_is_cut(
    face: FaceProcess, slow: tuple[socket.socket, float]
) -> None:
    connection, began = slow
    connection.settimeout(15)
    answer = read_answer(connection)

    assert problem(answer) == (408, "bad_request")
    assert time.monotonic() - began < 60
    assert connection.recv(1) == b""


def test_nothing_of_that_was_an_error_of_the_server(face: FaceProcess) -> None:
    assert [line for line in face.log if line["level"] in ("error", "critical")] == []
    assert "Traceback" not in face.text
    assert {line["status"] for line in face.logged("http_refused")} <= {400, 408, 414, 431, 501, 503, 505}
