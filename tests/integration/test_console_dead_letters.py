"""The page of dead letters: events that were refused, with their bytes, sent again or thrown away."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from tests.support.console_page import Element, read_page
from tests.support.face import HERE, OpenFace, opened_face, settings_in
from tests.support.failures import FIELDLESS, entries, refuse
from worker.http.console import dead_letters

PAGE = "/console/dead-letters"
MINE, OTHERS = b'{"source": "uploads/mine/a.jpg", "x": 1}', b'{"source": "uploads/other/a.jpg", "x": 1}'


@pytest.fixture
def browser(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client that sends forms as a page of the console does."""
    client.headers.update({"Sec-Fetch-Site": "same-origin", "Origin": HERE})
    return client


async def look(client: httpx.AsyncClient, path: str = PAGE) -> Element:
    """The page there."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return read_page(answer.text)


def listed(page: Element) -> list[int]:
    """The numbers of the letters."""
    return [int(one.attributes["id"].removeprefix("letter-")) for one in page.all("li", class_="failure")]


async def test_dead_letters_are_shown_with_their_bytes_as_text_and_the_reason(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await refuse(catalog, b"\xff<script>\x00\xe2\x80\xae", b"{}")
    page = await look(client)
    bytes_of = [one.text for one in page.all("pre")]

    assert bytes_of == ["{}", r"\xff<script>\x00\u202e"]
    row = page.all("li", class_="failure")[1]
    assert "invalid_event refused" in row.text
    assert "entry 1-0" in row.text
    assert "<script>" not in (await client.get(PAGE)).text.partition("<main")[2]


async def test_of_a_long_one_so_much_is_shown_and_how_much_is_not(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await refuse(catalog, b"a" * 5000)
    row = (await look(client)).one("li", class_="failure")

    assert row.one("summary").text == f"{'a' * 200} …"
    assert row.one("pre").text == "a" * 4096
    assert "904 B more are not shown" in row.text


async def test_pages_follow_each_other_newest_first(
    catalog: Catalog, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_PAGE", 2)
    numbers = await refuse(catalog, *[b"%d" % n for n in range(5)])
    pages = [await look(client)]
    while older := pages[-1].all("a", rel="next"):
        pages.append(await look(client, older[0].attributes["href"]))

    assert [listed(page) for page in pages] == [numbers[:2], numbers[2:4], numbers[4:]]


async def test_ticked_letters_are_sent_again(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace
) -> None:
    numbers = await refuse(catalog, b"first", b"second")
    asked = await browser.post(f"{PAGE}/retry", data={"tick": [str(numbers[0])]})
    page = read_page(asked.text)
    assert (page.one("h1").text, page.one("button").text) == ("Send again: 1 dead letter?", "Send again 1")
    assert await entries(opened) == []

    fields = {one.attributes["name"]: one.attributes["value"] for one in page.all("input", type="hidden")}
    done = await browser.post(f"{PAGE}/retry", data=fields)
    assert await entries(opened) == [b"second"]
    page = await look(browser, done.headers["location"])
    assert page.one(class_="notice").text.startswith("1 event was sent again.")
    assert listed(page) == numbers[1:]


@pytest.mark.parametrize("code", ["", "invalid_event"])
async def test_all_letters_that_were_there_and_match_are_thrown_away(
    catalog: Catalog, browser: httpx.AsyncClient, code: str
) -> None:
    await refuse(catalog, b"1", b"2")
    asked = read_page((await browser.post(f"{PAGE}/discard", data={"all": "1", "code": code})).text)
    fields = {one.attributes["name"]: one.attributes["value"] for one in asked.all("input", type="hidden")}
    [other, *_] = await refuse(catalog, b"1", b"2", b"3", code="unknown_recipe")
    done = await browser.post(f"{PAGE}/discard", data=fields)

    page = await look(browser, done.headers["location"].replace("code=invalid_event", ""))
    assert page.one(class_="notice").text == "2 were discarded."
    assert listed(page) == [other]


async def test_what_was_in_no_field_event_is_not_sent_again_and_the_page_says_why(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace
) -> None:
    [fieldless] = await refuse(catalog, b"foo=bar", reason=FIELDLESS)
    page = await look(browser)
    assert "no field named event It can only be discarded" in page.one("li", class_="failure").text
    assert [one.text for one in page.one(class_="deeds").all("button")] == ["Discard ticked", "Discard all 1"]

    [other, _] = await refuse(catalog, b"foo=bar", b"second")
    asked = await browser.post(f"{PAGE}/retry", data={"tick": [str(fieldless), str(other), "999"]})
    page = read_page(asked.text)
    assert page.one("h1").text == "Send again: 1 dead letter?"
    assert [one.text for one in page.all("p", class_="confirm-note")][1:] == [
        "1 of those that were ticked stays, as its entry had no event to send: discard is all there is.",
        "1 of those that were ticked is not there any more.",
    ]
    done = await browser.post(f"{PAGE}/retry", data={"all": "1", "confirmed": "1"})
    said = (await look(browser, done.headers["location"])).one(class_="notice").text
    assert said.endswith("1 stays, as its entry had no event to send: it can only be discarded.")
    assert (await entries(opened), listed(await look(browser))) == ([b"second"], [fieldless])


async def test_who_is_bound_sees_and_deals_with_their_own_alone(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace
) -> None:
    numbers = await refuse(catalog, MINE, OTHERS)
    browser.headers.update(await opened.key("tenant", "operate", prefix="uploads/mine/"))
    page = await look(browser)
    assert listed(page) == [numbers[1]]
    assert "Discard all that match" in page.text

    await browser.post(f"{PAGE}/discard", data={"tick": [str(numbers[0])], "confirmed": "1"})
    await browser.post(f"{PAGE}/discard", data={"all": "1", "confirmed": "1"})
    assert [one.body for one in await catalog.dead_letters.newest(9)] == [OTHERS]


async def test_who_may_only_read_sees_no_buttons(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace
) -> None:
    await refuse(catalog, b"1")
    browser.headers.update(await opened.key(scopes="read"))
    page = await look(browser)
    assert (len(listed(page)), page.all("form"), page.all("input")) == (1, [], [])


@pytest.fixture
async def demo(installation: Path, server: RedisServer, catalog_url: str) -> AsyncIterator[OpenFace]:
    """The console as a public demo."""
    settings = settings_in(installation, server.url, catalog_url=catalog_url, console="demo")
    async with opened_face(settings) as opened:
        yield opened


async def test_a_demo_shows_no_bytes_and_no_reason_of_a_letter(catalog: Catalog, demo: OpenFace) -> None:
    await refuse(catalog, MINE)
    text = (await look(demo.client)).one("main").text
    assert "A demo does not show its 40 bytes." in text
    assert "mine" not in text
    assert "refused" not in text.replace("was refused for", "")
