"""Every page of the console in a real browser: light and dark, narrow and wide, by keyboard, and by axe.

The walk takes some of them a day, and the others the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.support.browser import (
    Browser,
    BrowserUser,
    Page,
    ViewportSize,
    barriers,
    browser,
    expect,
    overflow,
    tab_through,
)
from tests.support.clients import WITH_SERVICES
from tests.support.console_site import HOSTILE, ConsoleSite, fill, site
from tests.support.rotation import of_day, today
from worker.upload_ids import default_id

__all__ = ["browser", "site"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]

UPLOAD_OF_MARKUP = f"/uploads/{default_id(f'uploads/{HOSTILE}')}"
PAGES = (
    "",
    "/uploads",
    "/uploads?state=failed&source=uploads/",
    "/uploads?code=corrupt_image&owner=x",
    f"/uploads/{default_id('uploads/landscape.jpg')}",
    f"/uploads/{default_id('uploads/torn.jpg')}",
    UPLOAD_OF_MARKUP,
    "/failures",
    "/failures?code=corrupt_image",
    "/dead-letters",
    "/storage",
    "/sweeps/{plan}",
    "/system",
    "/drop",
    "/no-such-page",
)
ALWAYS = ("/uploads", "/failures", UPLOAD_OF_MARKUP)
A_DAY = 2  # of all
INJECTED = "img[src=x], [onerror], #content script, #content b:text-is('title')"
WIDE, NARROW = ViewportSize(width=1280, height=800), ViewportSize(width=375, height=800)


@dataclass
class Walk:
    """What was found on the pages. Each is opened once for all tests, for that takes most of their time."""

    complaints: list[str] = field(default_factory=list)
    barriers: list[str] = field(default_factory=list)
    too_wide: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    injected: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    async def look_at(self, page: Page, path: str) -> None:
        """Look at the page in light on a desk, with the keyboard alone, and in the dark on a phone."""
        await expect(page.locator("h1")).to_be_visible()
        self.barriers += _on(path, await barriers(page))
        unreached, unseen = await tab_through(page)
        self.unreached += _on(path, unreached)
        self.unseen += _on(path, unseen)
        self.too_wide += _on(path, await overflow(page))
        await page.emulate_media(color_scheme="dark")
        await page.set_viewport_size(NARROW)
        self.barriers += _on(path, await barriers(page))
        self.too_wide += _on(path, await overflow(page))
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size(WIDE)
        self.injected += _on(path, await page.locator(INJECTED).all_inner_texts())
        self.texts[path] = await page.locator("#content").inner_text()


def _on(path: str, found: list[str]) -> Iterator[str]:
    return (f"{path or '/'}: {one}" for one in found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walk(browser: Browser, site: ConsoleSite) -> Walk:
    """A walk over pages of an installation that has something to show on each."""
    plan = fill(site.place)
    found = Walk()
    user = BrowserUser(browser, expected=["answer: 404 GET .*/no-such-page$"])
    page = await user.open(site.url(), password=site.secrets["operator"])
    for path in {**dict.fromkeys(ALWAYS), **dict.fromkeys(of_day(PAGES, A_DAY, today()))}:
        await page.goto(site.url(path.format(plan=plan)))
        await found.look_at(page, path)
    found.complaints = await user.leave()
    return found


async def test_no_page_breaks_its_policy_fails_or_asks_anybody_else(walk: Walk) -> None:
    assert walk.complaints == [], "\n".join(walk.complaints)


async def test_axe_finds_nothing_that_keeps_people_out_of_a_page(walk: Walk) -> None:
    assert walk.barriers == [], "\n".join(walk.barriers)


async def test_no_page_is_wider_than_a_phone(walk: Walk) -> None:
    assert walk.too_wide == [], "\n".join(walk.too_wide)


async def test_the_keyboard_alone_reaches_all_controls_visibly(walk: Walk) -> None:
    assert walk.unreached == [], "\n".join(walk.unreached)
    assert walk.unseen == [], "\n".join(walk.unseen)


async def test_markup_in_names_and_metadata_is_text_on_every_page(walk: Walk) -> None:
    assert walk.injected == [], "\n".join(walk.injected)
    assert len([path for path, text in walk.texts.items() if HOSTILE in text]) > 2
    assert "<b>title</b>" in walk.texts[UPLOAD_OF_MARKUP]
    assert "<script>alert(1)</script>" in walk.texts[UPLOAD_OF_MARKUP]
    assert "\u202e" not in "".join(walk.texts.values())
