"""Uploads over bare sockets: nothing is sent in vain, and every answer can be read."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support.face import FaceProcess, caller_of, new_secret, start_face
from tests.support.pictures import medium, small
from tests.support.raw_http import RawAnswer, connect_to, read_answer
from tests.support.workplace import Workplace, database_on

MIB = 1024 * 1024
LIMIT = 1 * MIB


@pytest.fixture(scope="module")
def place(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("face"), database_on(redis_server.url), migrated)
    place.start()
    yield place
    place.close()


@pytest.fixture(scope="module")
def face(place: Workplace) -> FaceProcess:
    return start_face(place, MEDIA_HTTP_UPLOADS="2", MEDIA_MAX_SOURCE_BYTES=str(LIMIT))


@pytest.fixture(scope="module")
def secret(place: Workplace, face: FaceProcess) -> str:
    return asyncio.run(new_secret(f"sqlite+aiosqlite:///{place.catalog}"))


def head(secret: str, size: int, **more: str) -> bytes:
    """The head of an upload of that size."""
    given = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {secret}",
        "Content-Type": "image/jpeg",
        "Content-Length": str(size),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST /v1/uploads HTTP/1.1\r\n{lines}\r\n".encode()


def code_of(answer: RawAnswer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["code"]


@pytest.mark.parametrize(
    ("size", "headers", "expected"),
    [
        (5, {"Authorization": "Bearer mw_wrong"}, (401, "unauthorized")),
        (LIMIT + 1, {}, (413, "source_too_large")),
        (5, {"Media_Recipe": "unknown"}, (422, "unknown_recipe")),
        (5, {"Media_Metadata": "{"}, (400, "bad_request")),
        (5, {"Content_Type": "text/plain"}, (415, "unsupported_format")),
    ],
)
def test_who_waits_for_our_word_sends_nothing_in_vain(
    face: FaceProcess, secret: str, size: int, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    with closing(connect_to(face.url)) as connection:
        given = {name: value for name, value in headers.items() if name != "Content_Type"}
        sent = head(secret, size, Expect="100-continue", **given)
        if "Content_Type" in headers:
            sent = sent.replace(b"image/jpeg", headers["Content_Type"].encode())
        connection.sendall(sent)
        first = connection.recv(13, socket.MSG_PEEK)
        answer = read_answer(connection)

    assert not first.startswith(b"HTTP/1.1 100")
    assert answer.headers["connection"] == "close"  # what comes next may be another request
    assert code_of(answer) == expected


def test_who_waits_for_our_word_gets_it(face: FaceProcess, secret: str) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(head(secret, len(small()), Expect="100-continue"))
        word = connection.recv(25)
        connection.sendall(small())
        answer = read_answer(connection)

    assert word == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.status == 201


def test_while_there_is_no_room_nobody_sends_anything(face: FaceProcess, secret: str) -> None:
    with (
        closing(connect_to(face.url)) as first,
        closing(connect_to(face.url)) as second,
        closing(connect_to(face.url)) as third,
    ):
        for connection in (first, second):
            connection.sendall(head(secret, len(small()), Expect="100-continue"))
            assert connection.recv(25).startswith(b"HTTP/1.1 100")
        third.sendall(head(secret, len(small()), Expect="100-continue"))
        refused = read_answer(third)
        for connection in (first, second):
            connection.sendall(small())
            assert read_answer(connection).status == 201

    assert code_of(refused) == (503, "busy")
    assert int(refused.headers["retry-after"]) > 0


def test_who_sends_all_of_a_picture_that_is_too_large_reads_why_not(face: FaceProcess, secret: str) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(head(secret, 20 * MIB))
        connection.sendall(bytes(20 * MIB))
        answer = read_answer(connection)
        connection.sendall(head(secret, len(small())) + small())
        next_answer = read_answer(connection)

    assert code_of(answer) == (413, "source_too_large")
    assert answer.headers["upload-limit"] == f"max-size={LIMIT}"
    assert next_answer.status == 201


def test_who_would_send_very_much_is_told_to_stop(face: FaceProcess, secret: str) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(head(secret, 65 * MIB))
        answer = read_answer(connection)

    assert code_of(answer) == (413, "source_too_large")
    assert answer.headers["connection"] == "close"


def test_what_turns_out_to_be_no_picture_is_refused_at_its_beginning(face: FaceProcess, secret: str) -> None:
    with closing(connect_to(face.url)) as connection:
        connection.sendall(head(secret, LIMIT) + b"%PDF-1.7" + bytes(5000))
        answer = read_answer(connection)

    assert code_of(answer) == (415, "unsupported_format")


def test_an_upload_that_breaks_off_leaves_nothing(place: Workplace, face: FaceProcess, secret: str) -> None:
    before = place.storage.keys("uploads")
    with closing(connect_to(face.url)) as connection:
        connection.sendall(head(secret, LIMIT, Expect="100-continue"))
        assert connection.recv(25)
        connection.sendall(medium()[:10_000])
    with caller_of(face, secret) as client:
        answer = client.post("/v1/uploads", content=small(), headers={"Content-Type": "image/jpeg"})

    assert place.storage.keys("uploads") - before == {answer.json()["source"]}


def test_who_waits_gets_the_variants(face: FaceProcess, secret: str) -> None:
    with caller_of(face, secret) as client:
        headers = {"Content-Type": "image/jpeg", "Prefer": "wait=25"}
        answer = client.post("/v1/uploads", content=medium(), headers=headers)

    assert answer.headers["preference-applied"] == "wait=25"
    assert (answer.status_code, answer.json()["state"]) == (201, "ready")
    assert [variant["name"] for variant in answer.json()["variants"]] == ["thumb", "medium", "large"]


def test_who_replaces_a_picture_and_waits_gets_the_new_variants(face: FaceProcess, secret: str) -> None:
    with caller_of(face, secret) as client:
        headers = {"Content-Type": "image/jpeg", "Prefer": "wait=25"}
        answers = [
            client.put("/v1/originals/2026/cat.jpg", content=content, headers=headers).json()
            for content in (medium(1), small(2))
        ]

    assert [answer["state"] for answer in answers] == ["ready", "ready"]
    assert [answer["original"]["bytes"] for answer in answers] == [len(medium(1)), len(small(2))]
