"""Apps and browsers that reach the HTTP server through the nginx of deploy/nginx, while a worker works."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.deployed_nginx import deployed_nginx
from tests.support.face import FaceProcess, start_face
from tests.support.raw_http import connect_to, read_answer
from tests.support.workplace import Workplace, database_on, eventually
from worker.settings import Settings

MOST = Settings.model_fields["max_source_bytes"].default
FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def place(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("nginx"), database_on(redis_server.url), migrated)
    place.start()
    yield place
    place.close()


@pytest.fixture(scope="module")
def face(place: Workplace) -> FaceProcess:
    return start_face(place, MEDIA_HTTP_PROXIES="127.0.0.1")


@pytest.fixture(scope="module")
def web(place: Workplace, face: FaceProcess) -> Iterator[str]:
    """The URL of the nginx, which has the disk of the workers."""
    with deployed_nginx(place.home, serve=face.url.removeprefix("http://")) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def client(place: Workplace, web: str) -> Iterator[httpx.Client]:
    """A client with a key, which whoever comes through a proxy needs."""
    secret = document(media(place.env(), "keys", "new", "app", "--json"))["secret"]
    with httpx.Client(base_url=web, headers={"Authorization": f"Bearer {secret}"}, trust_env=False) as client:
        yield client


def test_an_upload_and_its_variants_come_through_and_the_variants_from_the_disk(
    client: httpx.Client, face: FaceProcess
) -> None:
    headers = {"Content-Type": "image/jpeg", "Prefer": "wait=20"}
    upload = client.post("/v1/uploads", content=pictures.medium(), headers=headers, timeout=30).json()
    links = [variant["url"] for variant in upload["variants"]]

    variants = [client.get(link) for link in links]

    assert upload["state"] == "ready"
    assert [each.headers["cache-control"] for each in variants] == [FOR_EVER] * len(links)
    assert all(each.content.startswith(b"\xff\xd8") for each in variants)
    client.get("/v1/limits")  # whose line comes after those of all before
    eventually(lambda: "/v1/limits" in [line["path"] for line in face.logged("http_request")])
    asked = face.logged("http_request")
    assert [line["path"] for line in asked if line["path"].startswith("/files/")] == []
    assert asked[-1]["client"] == "127.0.0.1"


@pytest.mark.parametrize("size", [MOST + 1, 40 << 20])
def test_an_upload_that_is_too_large_gets_a_413_that_can_be_read(client: httpx.Client, size: int) -> None:
    began = time.monotonic()
    answer = client.post("/v1/uploads", content=bytes(size), headers={"Content-Type": "image/jpeg"})

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["upload-limit"] == f"max-size={MOST}"
    assert answer.json()["max_bytes"] == MOST
    assert time.monotonic() - began < 10


def test_who_has_no_key_is_told_so_before_the_body_is_sent(web: str) -> None:
    head = b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
    with closing(connect_to(web)) as connection:
        connection.sendall(head)
        answer = read_answer(connection)

    assert (answer.status, json.loads(answer.body)["code"]) == (401, "unauthorized")


def test_a_message_comes_through_as_soon_as_it_is_there(client: httpx.Client, place: Workplace) -> None:
    """A buffer would keep it until 4 kB have come, or until the stream ends."""
    with client.stream("GET", "/v1/events", timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        place.send({"source": place.put("uploads/a.jpg", pictures.small())})

        event = next(line for line in lines if line.startswith("event: "))
        data = next(line for line in lines if line.startswith("data: "))

    assert event == "event: upload.ready"
    assert json.loads(data.removeprefix("data: "))["source"] == "uploads/a.jpg"


def test_json_is_compressed_by_the_server_and_once(client: httpx.Client) -> None:
    with client.stream("GET", "/openapi.json", headers={"Accept-Encoding": "gzip"}) as answer:
        answer.read()

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.json()["openapi"].startswith("3.")


def test_a_websocket_comes_through(web: str) -> None:
    head = (
        b"GET /v1/events/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with closing(connect_to(web)) as connection:
        connection.sendall(head)
        answer = read_answer(connection)

    assert answer.status == 101
