"""What the browser of the tests tells of a page: each thing that must never go wrong in the console."""

import pytest

from tests.support.browser import BrowserUser, barriers, browser, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.flawed_site import FlawedSite

__all__ = ["browser", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]


async def test_a_flaw_of_a_page_is_told_whatever_its_kind(visitor: BrowserUser) -> None:
    with FlawedSite() as site:
        await visitor.open(site.url)
    visitor.expected = [""]

    told = sorted({one.split(":")[0] for one in visitor.wrong})
    assert told == ["answer", "console error", "foreign request", "page error", "request failed"]
    assert [one for one in visitor.wrong if "CSP: style-src-attr" in one]


async def test_what_keeps_people_out_of_a_page_is_told(visitor: BrowserUser) -> None:
    with FlawedSite() as site:
        page = await visitor.open(site.url)
    visitor.expected = [""]

    told = {one.split(":")[0] for one in await barriers(page)}
    assert {"color-contrast", "html-has-lang", "image-alt"} <= told
