"""SIGKILL of `media serve`, of its Redis, of the worker, at each step of an upload: a retry ends in one."""

import asyncio
from contextlib import closing, suppress
from typing import Any

import httpx
import orjson
import pytest

from scripts.redis_server import temporary_redis
from tests.support.dying import DIED, dying_at
from tests.support.face import FaceProcess, caller_of, install, new_secret, settings_in, start_face
from tests.support.pictures import medium, small
from tests.support.raw_http import connect_to
from tests.support.workplace import Workplace, eventually

STEPS = 12  # of a server that starts and takes an upload
HEADERS = {"Content-Type": "image/jpeg", "Idempotency-Key": "7f1c"}


@pytest.fixture
def installed(workplace: Workplace) -> Workplace:
    asyncio.run(install(settings_in(workplace.home, workplace.redis_url)))
    return workplace


@pytest.fixture
def secret(installed: Workplace) -> str:
    return asyncio.run(new_secret(f"sqlite+aiosqlite:///{installed.catalog}"))


def upload(face: FaceProcess, secret: str, content: bytes = small(), **headers: str) -> httpx.Response:
    with caller_of(face, secret) as client:
        return client.post("/v1/uploads", content=content, headers={**HEADERS, **headers})


def announced(place: Workplace) -> set[str]:
    """The sources that the events on the stream name."""
    entries: Any = place.redis.xrange("media:uploads")
    return {orjson.loads(fields[b"event"])["source"] for _, fields in entries}


@pytest.mark.rotating(4)
@pytest.mark.parametrize("step", range(1, STEPS + 2))
def test_a_server_killed_at_any_step_leaves_one_upload_after_the_retry(
    installed: Workplace, secret: str, step: int
) -> None:
    dying = start_face(installed, ready=False, **dying_at(step))
    with suppress(httpx.HTTPError, AssertionError):
        dying.await_log("http_ready")
        upload(dying, secret)
    if step <= STEPS:
        assert dying.wait() == DIED
    another = start_face(installed)
    answer = upload(another, secret)

    assert answer.status_code in (200, 201)
    assert installed.storage.keys("uploads") == {answer.json()["source"]} == announced(installed)
    if step <= STEPS:
        assert len(installed.storage.unfinished()) == 1  # the folder of the one that lives
        another.stop()
        assert installed.storage.unfinished() == []


def test_a_server_killed_before_its_answer_leaves_one_upload_after_the_retry(
    installed: Workplace, secret: str
) -> None:
    face = start_face(installed)
    with closing(connect_to(face.url)) as connection:
        connection.sendall(_request(secret))
        eventually(lambda: bool(announced(installed)))
        face.kill()
    again = upload(start_face(installed), secret)

    assert again.status_code == 200
    assert installed.storage.keys("uploads") == {again.json()["source"]} == announced(installed)


def test_a_server_killed_while_bytes_come_leaves_nothing(installed: Workplace, secret: str) -> None:
    face = start_face(installed)
    with closing(connect_to(face.url)) as connection:
        connection.sendall(_request(secret, medium())[:-100])
        eventually(lambda: len(installed.storage.unfinished()) == 2)
        face.kill()
    another = start_face(installed)

    assert installed.storage.keys("uploads") == set()
    assert len(installed.storage.unfinished()) == 1
    assert upload(another, secret).status_code == 201


def test_while_redis_is_dead_the_picture_stays_for_the_retry(installed: Workplace, secret: str) -> None:
    with temporary_redis() as own:
        face = start_face(installed, MEDIA_REDIS_URL=own.url)
    away = upload(face, secret)
    face.stop()
    again = upload(start_face(installed), secret)

    assert (away.status_code, again.status_code) == (503, 200)
    assert installed.storage.keys("uploads") == {again.json()["source"]} == announced(installed)


def test_a_worker_killed_over_an_upload_makes_no_second_of_it(installed: Workplace, secret: str) -> None:
    face = start_face(installed)
    first = upload(face, secret, medium())
    worker = installed.start()
    eventually(lambda: installed.redis.xlen("media:uploads") == 0)
    worker.kill()
    installed.start()
    again = upload(face, secret, medium(), Prefer="wait=20")

    assert (again.status_code, again.json()["state"]) == (200, "ready")
    assert again.json()["id"] == first.json()["id"]
    assert installed.storage.keys("uploads") == {first.json()["source"]}
    installed.check()


def _request(secret: str, content: bytes = small()) -> bytes:
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    lines += ["Host: 127.0.0.1", f"Authorization: Bearer {secret}", f"Content-Length: {len(content)}"]
    return ("POST /v1/uploads HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode() + content
