"""Who may ask the HTTP face: keys, and on a machine of one's own nobody in particular."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer
from storage.catalog.http_keys import HttpKey
from storage.errors import CatalogUnavailable
from tests.support.face import SECRET, OpenFace, settings_in
from worker.http.access import Access
from worker.http.face import open_face
from worker.http.keys import KeyMistake, new_key
from worker.http.problems import Problem
from worker.http.tokens import Tokens


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
    assert answer.json()["detail"] == "There is no such path: /openapi.json lists all."


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"all": False}, "all: must be true"),
        ([], "body: must be an object of JSON"),
        ({"ids": "x"}, "ids: must be an array of JSON"),
    ],
)
async def test_what_a_body_lacks_is_said_in_the_words_of_json(
    client: httpx.AsyncClient, body: object, detail: str
) -> None:
    answer = await client.post("/v1/failures/retry", json=body)

    assert (answer.status_code, answer.json()["detail"]) == (400, detail)


def test_a_problem_in_the_log_is_what_it_says() -> None:
    assert str(Problem("busy", "Try again soon.")) == "Try again soon."


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_method_that_a_route_lacks_is_said(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/healthz")

    assert (answer.status_code, answer.json()["code"]) == (405, "bad_request")
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["detail"] == "That path takes GET, HEAD, and no other method."


async def test_a_method_that_no_route_of_a_path_has_is_answered_with_those_of_all(
    client: httpx.AsyncClient,
) -> None:
    answers = [await client.patch(path) for path in ("/v1/uploads", f"/v1/uploads/{UUID(int=1)}")]

    assert [answer.headers["allow"] for answer in answers] == ["GET, HEAD, POST", "DELETE, GET, HEAD"]


async def test_a_secret_is_told_once_and_known_by_its_digest(opened: OpenFace) -> None:
    header = await opened.key("app", "read")
    caller = await opened.face.access.known(header["Authorization"].removeprefix("Bearer "))

    assert caller.name == "app"
    assert caller.scopes == frozenset({"read"})


# -- keys


async def test_a_key_without_the_scope_and_a_secret_that_is_none_are_refused(opened: OpenFace) -> None:
    weak = await opened.key("weak", "read")
    answers = [await make_token(opened, header) for header in (weak, {"Authorization": "Bearer mw_none"})]

    assert [answer.status_code for answer in answers] == [403, 401]
    assert answers[1].headers["www-authenticate"] == 'Bearer realm="media"'


async def test_a_new_key_counts_at_once_and_a_revoked_one_soon(opened: OpenFace) -> None:
    await opened.key("first")
    assert (await make_token(opened, {"Authorization": "Bearer mw_x"})).status_code == 401
    secret, key = new_key("second", ["upload"], None, None, 0)
    await opened.face.stores.catalog.http_keys.add(key)
    header = {"Authorization": f"Bearer {secret}"}

    assert await answers(opened, header, 201, within_s=1)
    await opened.face.stores.catalog.http_keys.revoke("second")
    assert await answers(opened, header, 401, within_s=4)


JUNK = (
    "",
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "bearer\tmw_x",
    "Basic bWVkaWE6bXdfeA==",
    "mw_x",
    "Bearer mw_",
    "Bearer mw_x mw_y",
    "Bearer " + "a" * 10_000,
    "Bearer mw_" + "a" * 10_000,
    "Bearer mw_\u00e9",
    "Bearer \u00ff.\u00ff.\u00ff",
    "Bearer null",
    "Bearer ..",
)


async def test_junk_in_place_of_a_key_is_refused(opened: OpenFace) -> None:
    for has_keys in (False, True):  # also where nobody needs a key
        if has_keys:
            await opened.key()
        for junk in JUNK:
            answer = await make_token(opened, [("Authorization", junk.encode("latin-1"))])

            assert (junk, answer.status_code, answer.json()["code"]) == (junk, 401, "unauthorized")
            assert len(junk) < 10 or junk[8:] not in answer.text


async def test_two_keys_at_once_are_none(opened: OpenFace) -> None:
    right = (await opened.key())["Authorization"]
    both = [("Authorization", right), ("Authorization", "Bearer mw_x")]

    for headers in (both, both[::-1], [both[0], both[0]]):
        assert (await make_token(opened, headers)).status_code == 401
    assert (await make_token(opened, {"Authorization": right.replace("Bearer", "BEARER")})).status_code == 201


@pytest.mark.parametrize(
    ("owner", "prefix"),
    [
        ("..", None),
        ("a/b", None),
        ("", None),
        ("sh\u200bop", None),
        ("\uff53hop", None),
        ("a" * 65, None),
        (None, "uploads/ab"),
        (None, "uploads/../x/"),
        (None, "uploads//"),
        (None, "variants/"),
        (None, "/uploads/x/"),
        (None, "uploads/.media-staging/"),
        (None, "uploads/a\u0308/"),
        (None, "uploads/\udcff/"),
        ("shop", "uploads/shop2/"),
        ("shop", "uploads/"),
    ],
)
def test_a_key_is_bound_to_a_whole_folder_or_not_made(owner: str | None, prefix: str | None) -> None:
    with pytest.raises(KeyMistake):
        new_key("app", ["read"], owner, prefix, 0)


def test_no_key_is_named_like_whoever_has_none() -> None:
    with pytest.raises(KeyMistake, match="local"):
        new_key("local", ["read"], None, None, 0)


async def test_who_is_bound_to_a_folder_sees_none_that_begins_like_it(opened: OpenFace) -> None:
    secret = (await opened.key("app", "read", None, "uploads/ab/"))["Authorization"].removeprefix("Bearer ")
    caller = await opened.face.access.known(secret)
    seen = ["uploads/ab/x.jpg", "uploads/ab/c/x.jpg"]
    others = ["uploads/abc/x.jpg", "uploads/ab", "uploads/AB/x.jpg", "uploads/x/uploads/ab/x", None]

    assert all(caller.may_see(source, "") for source in seen)
    assert not any(caller.may_see(source, "ab") for source in others)


# -- nobody in particular


async def test_on_a_machine_of_ones_own_no_key_is_needed_until_there_is_one(opened: OpenFace) -> None:
    assert (await make_token(opened, {})).status_code == 201
    secret, key = new_key("first", ["upload"], None, None, 0)
    await opened.face.stores.catalog.http_keys.add(key)

    assert (await make_token(opened, {})).status_code == 401  # at once
    assert (await make_token(opened, {"Authorization": f"Bearer {secret}"})).status_code == 201


async def test_the_end_of_the_last_key_opens_no_server(opened: OpenFace) -> None:
    await opened.key("first")
    await opened.face.stores.catalog.http_keys.revoke("first")
    opened.face.access.forget()

    assert (await make_token(opened, {})).status_code == 401


FOREIGN = {
    "a name that leads here": {"Host": "evil.example:8080"},
    "a name that begins like ours": {"Host": "localhost.evil.example"},
    "a name that ends like ours": {"Host": "evil.localhost:8080"},
    "an address that is ours alone by luck": {"Host": "127.0.0.1.nip.io"},
    "no name": {"Host": ""},
    "two ports": {"Host": "localhost:80:80"},
    "a user": {"Host": "a@localhost"},
    "a page of another site": {"Sec-Fetch-Site": "cross-site"},
    "a page of another port": {"Sec-Fetch-Site": "same-site"},
    "a page of another origin": {"Origin": "https://evil.example"},
    "a page of another port, by an old browser": {"Origin": "http://127.0.0.1:3000"},
    "a file, or a frame without an origin": {"Origin": "null"},
    "a proxy": {"X-Forwarded-For": "203.0.113.7"},
    "a proxy that pretends": {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost"},
    "a newer proxy": {"Forwarded": "for=203.0.113.7"},
    "another proxy": {"Via": "1.1 cache"},
}


async def test_without_keys_nobody_gets_in_from_elsewhere(opened: OpenFace) -> None:
    for who, headers in FOREIGN.items():
        answer = await make_token(opened, headers)

        assert (who, answer.status_code, answer.json()["code"]) == (who, 403, "forbidden")


async def test_two_hosts_are_none(opened: OpenFace) -> None:
    for hosts in (["localhost", "evil.example"], ["evil.example", "localhost"]):
        assert (await make_token(opened, [("Host", host) for host in hosts])).status_code == 403


OURS: Sequence[Mapping[str, str]] = (
    {"Host": "localhost:8080"},
    {"Host": "LOCALHOST"},
    {"Host": "[::1]:8080"},
    {"Host": "[::1]"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8080"},
    {"Sec-Fetch-Site": "none"},
)


async def test_without_keys_programs_of_this_machine_get_in(opened: OpenFace) -> None:
    for headers in OURS:
        assert (headers, (await make_token(opened, headers)).status_code) == (headers, 201)


async def test_what_a_proxy_says_of_somebody_makes_nobody_more_or_less(opened: OpenFace) -> None:
    said = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "X-Real-IP": "127.0.0.1"}
    key = await opened.key()

    assert (await make_token(opened, said)).status_code == 401
    assert (await make_token(opened, {**said, **key})).status_code == 201


# -- while the catalog is away


class Catalogue:
    """Keys that can be read, or not, or not soon."""

    def __init__(self) -> None:
        self.secret, self.key = new_key("app", ["read"], None, None, 0)
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_away = False
        self.asked = 0
        self.access = Access(self.read, Tokens(SECRET), is_local=True)

    async def read(self) -> Sequence[HttpKey]:
        self.asked += 1
        await self.answers.wait()
        if self.is_away:
            raise CatalogUnavailable("the catalog is away")
        return [self.key]


async def test_known_keys_go_on_to_count_while_the_catalog_is_away() -> None:
    catalog = Catalogue()
    await catalog.access.known(catalog.secret)
    catalog.is_away = True
    catalog.access.forget()

    assert (await catalog.access.known(catalog.secret)).name == "app"
    with pytest.raises(Problem):
        await catalog.access.known("mw_other")


async def test_known_keys_wait_for_no_catalog_that_hangs() -> None:
    catalog = Catalogue()
    await catalog.access.known(catalog.secret)
    catalog.answers.clear()
    catalog.access.forget()
    began = time.monotonic()
    await asyncio.gather(*(catalog.access.known(catalog.secret) for _ in range(20)))
    first = time.monotonic() - began
    await catalog.access.known(catalog.secret)

    assert first < 10  # a catalog that hangs answers never
    assert catalog.asked == 2  # who comes later does not even ask
    catalog.answers.set()


async def test_before_any_key_is_known_nobody_gets_in_without_a_catalog() -> None:
    catalog = Catalogue()
    catalog.is_away = True

    with pytest.raises(CatalogUnavailable):
        await catalog.access.known(catalog.secret)
    catalog.is_away = False
    assert (await catalog.access.known(catalog.secret)).name == "app"


async def test_a_bug_while_catalog_and_storage_are_opened_is_logged_and_tried_again(
    installation: Path, server: RedisServer, catalog_url: str
) -> None:
    settings = settings_in(installation, server.url, catalog_url=catalog_url)
    with capture_logs() as logs:
        async with open_face(settings.model_copy(update={"storage_url": "file:\0"})):
            async with asyncio.timeout(10):
                while len(logs) < 2:  # noqa: ASYNC110 (a line of the log is no event)
                    await asyncio.sleep(0.01)

    assert {(line["event"], line["log_level"]) for line in logs} == {("http_open_crashed", "error")}


async def test_junk_asks_the_catalog_only_now_and_then() -> None:
    catalog = Catalogue()
    for number in range(200):
        with pytest.raises(Problem):
            await catalog.access.known(f"mw_{number}")

    assert catalog.asked <= 5


Headers = Mapping[str, str] | Sequence[tuple[str, str | bytes]]


async def make_token(opened: OpenFace, headers: Headers) -> httpx.Response:
    """Something for which one needs a key."""
    given = list(headers.items() if isinstance(headers, Mapping) else headers)
    request = opened.client.build_request("POST", "/v1/tokens", json={})
    for name, _ in given:
        request.headers.pop(name, None)
    ours = [(name.encode(), each if isinstance(each, bytes) else each.encode()) for name, each in given]
    request.headers = httpx.Headers([*request.headers.raw, *ours])
    return await opened.client.send(request)


async def answers(opened: OpenFace, headers: Headers, status: int, within_s: float) -> bool:
    """Whether that becomes the answer."""
    until = time.monotonic() + within_s
    while (await make_token(opened, headers)).status_code != status:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.02)
    return True
