"""What the browser of the tests tells of a page: each thing that must never go wrong in the console."""

from collections.abc import Iterator

import pytest

from tests.support.browser import BrowserUser, Page, barriers, browser, tab_through, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.static_site import StaticSite

__all__ = ["browser", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src *"
FLAWED = """<!doctype html><html><title>A page</title><link rel="stylesheet" href="/pale.css">
<p style="color: red">Some words that are too pale.</p>
<img src="/gone.png"><img src="http://127.0.0.1:9/elsewhere.png"><script src="/fails.js"></script>
<a href="/one" tabindex="-1">Unreached</a><a href="/two" class="bare">Unseen</a>
<a href="/three">Well</a></html>"""
FILES = {
    "/flawed.html": FLAWED,
    "/pale.css": "p { color: #ddd } .bare { outline: none }",
    "/fails.js": "console.error('said'); throw Error('thrown')",
}


@pytest.fixture
def url() -> Iterator[str]:
    with StaticSite(FILES, POLICY) as site:
        yield f"http://127.0.0.1:{site.port}/flawed.html"


async def test_a_flaw_of_a_page_is_told_whatever_its_kind(visitor: BrowserUser, url: str) -> None:
    visitor.expected = [""]

    await visitor.open(url)

    told = {one.split(":")[0] for one in visitor.wrong}
    assert told == {"answer", "console error", "foreign request", "page error", "request failed"}
    assert [one for one in visitor.wrong if "CSP: style-src-attr" in one]


async def test_what_keeps_people_out_of_a_page_is_told(visitor: BrowserUser, url: str) -> None:
    visitor.expected = [""]

    page: Page = await visitor.open(url)

    told = {one.split(":")[0] for one in await barriers(page)}
    assert {"color-contrast", "html-has-lang", "image-alt"} <= told
    [[unreached], [unseen]] = await tab_through(page)
    assert ("Unreached" in unreached, "Unseen" in unseen) == (True, True)
