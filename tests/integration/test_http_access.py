"""Who may ask the HTTP face: keys, and on a machine of one's own nobody in particular."""

import httpx
import pytest

from tests.support.face import OpenFace


async def test_a_server_is_ready_once_catalog_and_redis_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")

    assert answer.status_code == 200
    assert {name: check["ok"] for name, check in answer.json()["checks"].items()} == {
        "catalog": True,
        "redis": True,
    }


async def test_what_is_not_there_is_a_problem_with_its_code(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nothing")

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() == {"type", "title", "status", "code", "detail"}
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_method_that_a_route_lacks_is_said(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/healthz")

    assert (answer.status_code, answer.json()["code"]) == (405, "bad_request")
    assert answer.headers["allow"] == "GET"


async def test_a_secret_is_told_once_and_known_by_its_digest(opened: OpenFace) -> None:
    header = await opened.key("app", "read")
    caller = await opened.face.access.known(header["Authorization"].removeprefix("Bearer "))

    assert (caller.name, caller.scopes) == ("app", frozenset({"read"}))
