"""Who may look at the console, and from where something may be done there."""

from base64 import b64encode
from uuid import uuid4

import httpx
import pytest

from tests.support.console_page import read_page
from tests.support.face import OpenFace, Opening
from worker.http.console.pages import HEADERS

HERE = "http://127.0.0.1:8080"
PAGE = "/console/no-such-page"  # 404 for whoever may look


def basic(header: dict[str, str]) -> dict[str, str]:
    """The key of an API's header as a browser sends it."""
    secret = header["Authorization"].removeprefix("Bearer ")
    return {"Authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}


async def test_a_server_of_this_machine_without_keys_shows_its_console_to_whoever_is_here(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get(PAGE)

    assert answer.status_code == 404
    assert "no page" in read_page(answer.text).one("main").text


async def test_a_browser_is_asked_for_a_key_once_there_is_one(opened: OpenFace) -> None:
    await opened.key()
    answer = await opened.client.get(PAGE)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert read_page(answer.text).one("h1").text == "Unauthorized"


@pytest.mark.parametrize(
    ("path", "referer", "links"),
    [
        (PAGE, "", ["/console"]),
        (
            PAGE,
            f"{HERE}/console/uploads?state=failed&code=x",
            ["/console/uploads?state=failed&code=x", "/console"],
        ),
        (PAGE, f"{HERE}{PAGE}", ["/console"]),
        (PAGE, f"{HERE}/consoles", ["/console"]),
        (PAGE, "http://elsewhere.example/console/uploads", ["/console"]),
        (PAGE, "http://[/console/uploads", ["/console"]),
        ("/console/uploads?x=1", f"{HERE}/console", ["/console"]),
        ("/console/uploads/none", "", ["/console/uploads", "/console"]),
        ("/console/failures?x=1", "", ["/console/failures", "/console"]),
    ],
)
async def test_a_page_that_says_why_not_leads_back(
    client: httpx.AsyncClient, path: str, referer: str, links: list[str]
) -> None:
    answer = await client.get(path, headers={"Referer": referer} if referer else {})

    assert answer.status_code >= 400
    assert [one.attributes["href"] for one in read_page(answer.text).one("main").all("a")] == links


async def test_a_page_that_refreshes_itself_has_the_browser_ask_nobody_for_a_key(opened: OpenFace) -> None:
    await opened.key()
    refresh = {"HX-Request": "true", "Accept": "text/html, application/json"}
    answer = await opened.client.get(PAGE, headers=refresh)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Bearer realm="media"'


@pytest.mark.parametrize(("scopes", "status"), [("read", 404), ("operate", 404), ("upload,originals", 401)])
async def test_the_password_is_a_key_that_may_read_or_operate(
    opened: OpenFace, scopes: str, status: int
) -> None:
    key = await opened.key(scopes=scopes)
    assert (await opened.client.get(PAGE, headers=basic(key))).status_code == status


@pytest.mark.parametrize(
    "word", ["Basic", "Basic ???", "Basic bXc=", "Digest x", "Basic bWU6bXdfd3Jvbmc=", "Basic \xe9"]
)
async def test_who_sends_no_key_that_counts_is_asked_again(opened: OpenFace, word: str) -> None:
    await opened.key()
    answer = await opened.client.get(PAGE, headers=[(b"Authorization", word.encode("latin-1"))])

    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers


async def test_a_trusted_proxy_tells_the_users_name_and_nobody_else_does(opening: Opening) -> None:
    named = {"X-Forwarded-User": "ada"}
    async with opening(console_user_header="X-Forwarded-User", http_proxies="127.0.0.1") as trusting:
        await trusting.key()
        answer = await trusting.client.get(PAGE, headers=named)
        assert (answer.status_code, read_page(answer.text).one("p", class_="who").text) == (404, "ada")
        assert (await trusting.client.get(PAGE)).status_code == 401
        original = f"/console/uploads/{uuid4()}/original"
        assert (await trusting.client.get(original, headers=named)).status_code == 403
    async with opening(console_user_header="X-Forwarded-User", http_proxies="10.0.0.1") as other:
        assert (await other.client.get(PAGE, headers=named)).status_code == 401


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["J\u00fcrgen \u0141uk".encode()], "J\u00fcrgen \u0141uk"),
        (["J\u00fcrgen".encode("latin-1")], "J\u00fcrgen"),
        ([b"ada", b"eve"], None),
        (["ada\u202e".encode()], None),
        ([b"a" * 65], None),
    ],
)
async def test_a_proxy_tells_one_name_as_proxies_write_it(
    opening: Opening, names: list[bytes], said: str | None
) -> None:
    async with opening(console_user_header="X-Forwarded-User", http_proxies="127.0.0.1") as trusting:
        answer = await trusting.client.get(PAGE, headers=[(b"X-Forwarded-User", name) for name in names])
    who = read_page(answer.text).all("p", class_="who")
    assert (answer.status_code, [one.text for one in who]) == ((404, [said]) if said else (403, []))


async def test_a_console_that_is_off_is_not_there(opening: Opening) -> None:
    async with opening(console="off") as opened:
        assert (await opened.client.get("/console/static/console.css")).status_code == 404
        assert (await opened.client.get(PAGE)).status_code == 404


async def test_anybody_may_look_at_a_demo_without_a_key(opening: Opening) -> None:
    async with opening(console="demo") as opened:
        await opened.key()
        answer = await opened.client.get(PAGE)
        assert (answer.status_code, read_page(answer.text).one("p", class_="who").text) == (
            404,
            "Demo (read only)",
        )


async def test_every_answer_forbids_what_a_page_does_not_need(client: httpx.AsyncClient) -> None:
    for path in (PAGE, "/console/static/console.js", "/console/static/none"):
        headers = (await client.get(path)).headers
        said = {name: headers[name] for name in HEADERS if name != "Cache-Control"}
        assert said == {name: value for name, value in HEADERS.items() if name != "Cache-Control"}
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


async def test_a_link_on_another_site_may_lead_to_the_console_of_this_machine(
    client: httpx.AsyncClient,
) -> None:
    led = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await client.get(PAGE, headers=led)).status_code == 404
    framed = {**led, "Sec-Fetch-Dest": "iframe"}
    assert (await client.get(PAGE, headers=framed)).status_code == 403


async def test_files_of_pages_are_kept_for_ever_under_the_name_of_their_version(
    client: httpx.AsyncClient,
) -> None:
    page = read_page((await client.get(PAGE)).text)
    style = page.one("link", rel="stylesheet").attributes["href"]
    answer = await client.get(style)

    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
    assert (await client.get(style.partition("?")[0])).headers["cache-control"] == "no-cache"
