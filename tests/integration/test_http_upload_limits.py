"""What keys, tokens and this process allow of uploads over HTTP."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from tests.support.face import SECRET, OpenFace, opened_face, settings_in
from tests.support.pictures import small
from tests.support.uploading import announced, form, stored
from worker.http.tokens import Tokens

pytestmark = pytest.mark.rotating(17, of="module")

JPEG = {"Content-Type": "image/jpeg"}


def token(**claims: Any) -> Mapping[str, str]:
    """The header of a token that an app has signed."""
    return {"Authorization": f"Bearer {Tokens(SECRET).sign(int(time.time()) + 60, claims)}", **JPEG}


async def send(opened: OpenFace, headers: Mapping[str, str], content: bytes = small()) -> tuple[int, str]:
    """Upload; returns the status, and the problem's code or the source."""
    answer = await opened.client.post("/v1/uploads", content=content, headers=dict(headers))
    return answer.status_code, answer.json().get("code") or answer.json()["source"]


@pytest.mark.rotating(1)
async def test_who_has_no_key_or_another_scope_uploads_nothing(opened: OpenFace) -> None:
    reader = await opened.key("reader", "read")

    assert await send(opened, JPEG) == (401, "unauthorized")
    assert await send(opened, {**reader, **JPEG}) == (403, "forbidden")
    assert await stored(opened) == {}


async def test_a_token_allows_so_many_bytes(opened: OpenFace) -> None:
    assert await send(opened, token(max_bytes=len(small()) - 1)) == (413, "source_too_large")
    assert (await send(opened, token(max_bytes=len(small()))))[0] == 201


async def test_a_token_says_recipe_and_metadata(opened: OpenFace) -> None:
    bound = token(recipe="default", metadata={"user": 7})

    assert (await send(opened, bound))[0] == 201
    assert await send(opened, {**bound, "Media-Metadata": '{"user": 8}'}) == (403, "forbidden")
    assert await send(opened, {**bound, "Media-Recipe": "other"}) == (403, "forbidden")
    assert [event["metadata"] for event in await announced(opened)] == [{"user": 7}]


@pytest.mark.rotating(1)
async def test_a_token_is_used_up(opened: OpenFace) -> None:
    twice = token(n=2)
    sent = [await send(opened, {**twice, "Idempotency-Key": key}) for key in ("a", "b", "c", "a", "b")]

    assert [status for status, _ in sent] == [201, 201, 403, 200, 200]
    assert len(await stored(opened)) == 2


async def test_what_a_token_failed_to_upload_is_not_counted(opened: OpenFace) -> None:
    once = token(n=1)

    assert (await send(opened, once, b"no picture"))[0] == 415
    assert (await send(opened, once))[0] == 201
    assert await send(opened, once) == (403, "forbidden")


async def test_the_uses_of_a_token_are_forgotten_after_it_expired(opened: OpenFace) -> None:
    await send(opened, token(n=1))
    redis = opened.face.queue.redis
    [name] = await redis.keys("media:uploads:tokens:*")

    assert 60 <= await redis.ttl(name) <= 120


async def test_an_owner_and_a_prefix_are_where_uploads_lie(opened: OpenFace) -> None:
    _, of_owner = await send(opened, {**await opened.key("a", owner="acme"), **JPEG})
    _, of_prefix = await send(opened, {**await opened.key("b", prefix="uploads/shop/pictures/"), **JPEG})
    _, of_token = await send(opened, token(owner="acme", prefix="uploads/acme/x/"))

    assert of_owner.startswith("uploads/acme/http/")
    assert of_prefix.startswith("uploads/shop/pictures/")
    assert of_token.startswith("uploads/acme/x/")
    assert [event.get("owner") for event in await announced(opened)] == [
        None,
        None,
        None,
    ]  # each folder says it


@pytest.mark.parametrize("claims", [{"owner": "../x"}, {"prefix": "elsewhere/"}, {"prefix": "uploads/../"}])
@pytest.mark.rotating(1)
async def test_a_token_does_not_lead_elsewhere(opened: OpenFace, claims: Mapping[str, str]) -> None:
    assert await send(opened, token(**claims)) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("binding", "folder"),
    [({"owner": "acme"}, "uploads/acme/"), ({"prefix": "uploads/shop/new/"}, "uploads/shop/new/")],
)
async def test_a_bound_key_is_told_where_it_may_put(
    opened: OpenFace, binding: dict[str, str], folder: str
) -> None:
    headers = {**await opened.key("a", **binding), **JPEG}
    answer = await opened.client.put("/v1/originals/other/cat.jpg", content=small(), headers=headers)

    assert answer.json()["detail"] == f"The key puts originals below {folder} alone."


@pytest.mark.rotating(1)
async def test_a_bound_key_puts_nothing_elsewhere(opened: OpenFace) -> None:
    headers = {**await opened.key("a", owner="acme"), **JPEG}
    statuses = [
        (await opened.client.put(f"/v1/originals/{path}", content=small(), headers=headers)).status_code
        for path in ("other/cat.jpg", "cat.jpg", "acme/cat.jpg", "acme/%2e%2e/other/cat.jpg")
    ]

    assert statuses == [403, 403, 201, 422]
    assert list(await stored(opened)) == ["uploads/acme/cat.jpg"]


async def test_a_path_that_is_no_key_is_refused(opened: OpenFace) -> None:
    headers = {**await opened.key(), **JPEG}
    for path in ("", "a//b", "%2e%2e/x", "a/", ".media-staging/x", "%ff.jpg", "x" * 256):
        answer = await opened.client.put(f"/v1/originals/{path}", content=small(), headers=headers)

        assert (path, answer.status_code, answer.json()["code"]) == (path, 422, "invalid_event")


@pytest.mark.parametrize("path", ["a/b.jpg/c.jpg", "a"])
async def test_a_path_in_whose_way_something_is_is_refused(opened: OpenFace, path: str) -> None:
    headers = {**await opened.key(), **JPEG}
    await opened.client.put("/v1/originals/a/b.jpg", content=small(), headers=headers)
    answer = await opened.client.put(f"/v1/originals/{path}", content=small(), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_event")
    assert await stored(opened) == {"uploads/a/b.jpg": small()}


@pytest.mark.parametrize("header", ["Idempotency-Key", "Media-Recipe", "Media-Metadata"])
async def test_a_header_that_stands_twice_is_refused(opened: OpenFace, header: str) -> None:
    key = await opened.key()
    headers = [*{**key, **JPEG}.items(), (header, "1"), (header, "2")]
    answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.json()["detail"] == f"There is one {header} at most."


MISTAKEN = (
    ("Media-Metadata", "{", (400, "bad_request")),
    ("Media-Metadata", "[1]", (422, "invalid_event")),
    ("Media-Metadata", f'{{"a": "{"b" * 4096}"}}', (422, "invalid_event")),
    ("Media-Metadata", '{"a":' * 300 + "1" + "}" * 300, (422, "invalid_event")),
    ("Media-Recipe", "unknown", (422, "unknown_recipe")),
    ("Idempotency-Key", "x" * 256, (400, "bad_request")),
    ("Idempotency-Key", "", (400, "bad_request")),
    ("Repr-Digest", "sha-256=abc", (400, "bad_request")),
    ("Repr-Digest", "sha-256=:AAAA:", (400, "bad_request")),
    ("Content-Type", "text/html", (415, "unsupported_format")),
    ("Content-Type", "multipart/form-data", (400, "bad_request")),
    ("Content-Encoding", "gzip", (415, "unsupported_format")),
)


async def test_a_wrong_header_is_refused(opened: OpenFace) -> None:
    usual = {**await opened.key(), **JPEG}
    for header, value, expected in MISTAKEN:
        answer = await opened.client.post("/v1/uploads", content=b"x", headers={**usual, header: value})

        assert (header, value, answer.status_code, answer.json()["code"]) == (header, value, *expected)


@pytest.mark.parametrize(
    ("header", "value", "detail"),
    [
        ("Media-Metadata", "{", "Media-Metadata: is not JSON"),
        ("Media-Metadata", " " * 20_000, "Media-Metadata: has at most 16384 bytes"),
        ("Media-Metadata", "[1]", "Media-Metadata: must be an object of JSON"),
        ("Media-Metadata", '{"a":' * 300 + "1" + "}" * 300, "Media-Metadata: "),
        ("Media-Recipe", "unknown", "unknown"),
    ],
)
async def test_a_wrong_header_is_named_in_words_of_ours(
    opened: OpenFace, header: str, value: str, detail: str
) -> None:
    headers = {**await opened.key(), **JPEG, header: value}
    answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert detail in answer.json()["detail"]
    assert "Input should" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ([("file", small()), ("file", small())], "one file"),
        ([("recipe", b"default")], "no field file"),
        ([("name", b"cat.jpg"), ("file", small())], "no others"),
        ([("metadata", bytes(20_000)), ("file", small())], "at most 16384 bytes"),
        ([("file", small()), ("metadata", b"{")], "metadata: is not JSON"),
        ([("recipe", b"\xff"), ("file", small())], "not UTF-8"),
    ],
)
async def test_a_wrong_form_is_refused_and_leaves_nothing(
    opened: OpenFace, fields: list[tuple[str, bytes]], detail: str
) -> None:
    content, kind = form(*fields)
    headers = {**await opened.key(), **kind}
    answer = await opened.client.post("/v1/uploads", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert detail in answer.json()["detail"]
    assert (await stored(opened), await announced(opened)) == ({}, [])


@pytest.mark.parametrize("cut", [1, 4, 60, 100, 400])
async def test_a_form_that_ends_early_leaves_nothing(opened: OpenFace, cut: int) -> None:
    content, kind = form(("file", small()), ("recipe", b"default"))
    headers = {**await opened.key(), **kind}
    answer = await opened.client.post("/v1/uploads", content=content[: -cut - 2], headers=headers)

    assert answer.status_code == 400
    assert await stored(opened) == {}


@pytest.mark.rotating(1)
async def test_a_key_sends_so_many_uploads_a_minute(installation: Path, server: RedisServer) -> None:
    async with opened_face(settings_in(installation, server.url, http_rate=2)) as opened:
        app, shop = await opened.key("app"), await opened.key("shop")
        sent = [await send(opened, {**key, **JPEG}) for key in (app, app, app, shop)]

        assert [status for status, _ in sent] == [201, 201, 429, 201]


async def test_an_app_hands_its_trace_on(opened: OpenFace) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await send(opened, {**await opened.key(), **JPEG, "traceparent": trace})
    await send(opened, {**await opened.key("other"), **JPEG, "traceparent": "nonsense"})

    assert [event.get("traceparent") for event in await announced(opened)] == [trace, None]


async def test_who_does_not_want_to_wait_so_long_gets_what_is_known(opened: OpenFace) -> None:
    headers = {**await opened.key(), **JPEG, "Prefer": "respond-async, wait=1"}
    answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert (answer.status_code, answer.json()["state"]) == (201, "queued")
    assert answer.headers["preference-applied"] == "wait=1"


async def test_who_wants_to_wait_longer_than_one_can_is_told_how_long_it_is(opened: OpenFace) -> None:
    opened.face.stopping.set()  # then nobody waits at all
    headers = {**await opened.key(), **JPEG, "Prefer": "wait=90"}
    answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert (answer.status_code, answer.headers["preference-applied"]) == (201, "wait=30")
