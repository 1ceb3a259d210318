"""Every page of the console in a real browser: light and dark, narrow and wide, by keyboard, and by axe."""

from collections.abc import Sequence

import pytest

from tests.support.browser import (
    BrowserUser,
    Page,
    barriers,
    browser,
    expect,
    overflow,
    tab_through,
    visitor,
)
from tests.support.clients import WITH_SERVICES
from tests.support.console_site import HOSTILE, ConsoleSite, fill, site
from worker.events import default_id

__all__ = ["browser", "site", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]

PAGES = (
    "",
    "/uploads",
    "/uploads?state=failed&source=uploads/",
    "/uploads?code=corrupt_image&owner=x",
    "/uploads/{ready}",
    "/uploads/{failed}",
    "/uploads/{hostile}",
    "/failures",
    "/failures?code=corrupt_image",
    "/dead-letters",
    "/storage",
    "/sweeps/{plan}",
    "/system",
    "/drop",
)
INJECTED = "img[src=x], [onerror], #content script, #content b:text-is('title')"


@pytest.fixture(scope="module")
def paths(site: ConsoleSite) -> Sequence[str]:
    """The path of each page, of an installation that has something to show on it."""
    names = {
        "ready": default_id("uploads/landscape.jpg"),
        "failed": default_id("uploads/torn.jpg"),
        "hostile": default_id(f"uploads/{HOSTILE}"),
        "plan": fill(site.place),
    }
    return [page.format(**names) for page in PAGES]


@pytest.mark.parametrize("width", [375, 1280])
async def test_no_page_does_what_it_must_not_or_keeps_anybody_out(
    visitor: BrowserUser, site: ConsoleSite, paths: Sequence[str], width: int
) -> None:
    page = await visitor.open(site.url(), password=site.secrets["operator"], width=width)
    found = []
    for path in paths:
        await _look_at(page, site.url(path))
        wrong = await barriers(page) + await overflow(page)
        await page.emulate_media(color_scheme="dark")
        wrong += await barriers(page, "color-contrast")
        await page.emulate_media(color_scheme="light")
        found += [f"{path or '/'}: {one}" for one in wrong]

    assert found == [], "\n".join(found)


async def test_the_keyboard_alone_reaches_all_controls_visibly(
    visitor: BrowserUser, site: ConsoleSite, paths: Sequence[str]
) -> None:
    page = await visitor.open(site.url(), password=site.secrets["operator"])
    found = []
    for path in paths:
        await _look_at(page, site.url(path))
        unreached, unseen = await tab_through(page)
        found += [f"{path or '/'}: Tab does not reach {one}" for one in unreached]
        found += [f"{path or '/'}: nobody sees that Tab is at {one}" for one in unseen]

    assert found == [], "\n".join(found)


async def test_markup_in_names_and_metadata_is_text_on_every_page(
    visitor: BrowserUser, site: ConsoleSite, paths: Sequence[str]
) -> None:
    page = await visitor.open(site.url(), password=site.secrets["operator"])
    seen = {}
    for path in paths:
        await _look_at(page, site.url(path))
        assert await page.locator(INJECTED).count() == 0
        seen[path] = await page.locator("#content").inner_text()

    assert [path for path, text in seen.items() if HOSTILE in text] != []
    assert "\u202e" not in "".join(seen.values())


async def _look_at(page: Page, url: str) -> None:
    await page.goto(url)
    await expect(page.locator("h1")).to_be_visible()
    await expect(page.locator("h1")).not_to_have_text("Not Found")
