"""Tokens that apps make with a key, for browsers that have none."""

import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from tests.support.face import OpenFace, opened_face
from worker.http.tokens import SignedToken


async def made(opened: OpenFace, header: dict[str, str], **wanted: Any) -> httpx.Response:
    return await opened.client.post("/v1/tokens", json=wanted, headers=header)


async def read(opened: OpenFace, answer: httpx.Response) -> SignedToken:
    token = (await opened.face.access.known(answer.json()["token"])).token
    assert token is not None
    return token


async def test_a_token_says_what_it_allows_until_when_and_where(opened: OpenFace) -> None:
    key = await opened.key()
    answer = await made(
        opened, key, max_bytes=1000, expires_in=60, recipe="default", metadata={"a": 1}, count=2
    )
    token = await read(opened, answer)

    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert answer.json().keys() == {"token", "expires", "url"}
    assert answer.json()["url"] == "/v1/uploads"
    assert (token.max_bytes, token.recipe, token.metadata, token.n) == (1000, "default", {"a": 1}, 2)
    assert token.expires_at == pytest.approx(time.time() + 60, abs=5)


async def test_a_token_of_nothing_said_lasts_ten_minutes(opened: OpenFace) -> None:
    token = await read(opened, await made(opened, await opened.key()))

    assert token.expires_at == pytest.approx(time.time() + 600, abs=5)
    assert (token.max_bytes, token.recipe, token.metadata, token.n) == (None, None, None, None)


@pytest.mark.parametrize("text", ["я" * 2000, "\U0001f408" * 1000, "a" * 4000])
async def test_a_token_with_as_much_metadata_as_may_be_counts(opened: OpenFace, text: str) -> None:
    key = await opened.key("shop", "upload", None, "uploads/" + f"{'я' * 120}/" * 4)
    token = await read(opened, await made(opened, key, metadata={"a": text}))

    assert token.metadata == {"a": text}


@pytest.mark.parametrize("name", ["max_bytes", "count"])
async def test_a_number_that_no_token_can_say_is_refused(opened: OpenFace, name: str) -> None:
    answer = await made(opened, await opened.key(), **{name: 2**53 + 1})
    token = await made(opened, await opened.key("other"), **{name: 2**53})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert (await read(opened, token)).expires_at


async def test_a_token_is_bound_to_what_its_key_is_bound_to(opened: OpenFace) -> None:
    key = await opened.key("shop", "upload", "shop", "uploads/shop/new/")
    token = await read(opened, await made(opened, key))

    assert (token.owner, token.prefix) == ("shop", "uploads/shop/new/")


async def test_two_tokens_that_allow_the_same_are_counted_apart(opened: OpenFace) -> None:
    key = await opened.key()
    first, second = [await read(opened, await made(opened, key, count=1)) for _ in range(2)]

    assert first.digest != second.digest


async def test_a_token_counts_no_longer_than_the_key_that_made_it(opened: OpenFace) -> None:
    secret = (await made(opened, await opened.key())).json()["token"]
    await opened.face.access.known(secret)
    await opened.face.stores.catalog.http_keys.revoke("app")
    opened.face.access.forget()
    answer = await made(opened, {"Authorization": f"Bearer {secret}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_token_makes_no_token_and_reads_nothing(opened: OpenFace) -> None:
    token = (await made(opened, await opened.key())).json()["token"]
    answer = await made(opened, {"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("scopes", ["read", "operate,originals"])
async def test_a_key_that_may_not_upload_makes_no_token(opened: OpenFace, scopes: str) -> None:
    answer = await made(opened, await opened.key("other", scopes))

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_recipe_that_is_not_there_is_said(opened: OpenFace) -> None:
    answer = await made(opened, await opened.key(), recipe="none")

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_recipe")


MISTAKEN: Sequence[dict[str, Any]] = (
    {"expires_in": 0},
    {"expires_in": 86_401},
    {"expires_in": "60"},
    {"max_bytes": 0},
    {"count": 0},
    {"count": True},
    {"metadata": []},
    {"metadata": {"a": "b" * 5000}},
    {"owner": "somebody"},
    {"max_bytes": 10**40},
)


async def test_a_wrong_wish_is_refused_by_its_name(opened: OpenFace) -> None:
    key = await opened.key()
    for wanted in MISTAKEN:
        answer = await made(opened, key, **wanted)

        assert (wanted, answer.status_code, answer.json()["code"]) == (wanted, 400, "bad_request")
        assert next(iter(wanted)) in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"[]", b"no json", b"[" * 60_000, b"{}" + b" " * 70_000])
async def test_a_body_that_is_no_document_is_refused(opened: OpenFace, body: bytes) -> None:
    answer = await opened.client.post("/v1/tokens", content=body, headers=await opened.key())

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_a_server_without_a_secret_says_that_it_makes_no_tokens(opened: OpenFace) -> None:
    settings = opened.face.settings.model_copy(update={"http_secret": ""})
    async with opened_face(settings) as silent:
        answer = await made(silent, await silent.key())

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "MEDIA_HTTP_SECRET" in answer.json()["detail"]


async def test_an_unknown_parameter_is_refused(opened: OpenFace) -> None:
    key = await opened.key("all", "upload,originals")
    original = "/v1/uploads/4a2ca705-03aa-52b8-a8b8-e2aa1374070e/original?inline=1"

    assert (await opened.client.post("/v1/tokens?count=1", json={}, headers=key)).status_code == 400
    assert (await opened.client.get(original, headers=key)).status_code == 400
