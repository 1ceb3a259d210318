"""The console's page System in a real browser, of an installation with a worker."""

import pytest

from tests.support.browser import BrowserUser, barriers, browser, expect, overflow, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.console_site import ConsoleSite, site

__all__ = ["browser", "site", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]

REFRESH = """htmx.ajax("GET", location.href, {
    target: document.getElementById("content"), select: "#content", swap: "outerMorph"
})"""


async def test_what_the_doctor_finds_comes_by_itself_and_stays_open_through_a_refresh(
    visitor: BrowserUser, site: ConsoleSite
) -> None:
    page = await visitor.open(site.url("/system"), password=site.secrets["reader"])
    await expect(page.get_by_role("link", name="Check again")).to_be_visible()
    await page.get_by_text("as they should be").click()
    await page.evaluate(REFRESH)

    await expect(page.locator("#doctor dt", has_text="Storage root")).to_be_visible()
    await expect(page.locator(".worker h3")).to_contain_text("PID")
    assert await page.locator("[hx-trigger=load]").count() == 0


async def test_without_script_a_link_has_the_doctor_look(visitor: BrowserUser, site: ConsoleSite) -> None:
    page = await visitor.open(site.url("/system"), password=site.secrets["reader"], script=False)
    await expect(page.get_by_text("Checking")).to_be_hidden()
    await page.get_by_role("link", name="Check").click()

    await expect(page.locator("#doctor")).to_contain_text("as they should be")


async def test_nothing_keeps_people_out_of_the_page_and_it_fits_its_width(
    visitor: BrowserUser, site: ConsoleSite
) -> None:
    page = await visitor.open(
        site.url("/system?checks=1"), password=site.secrets["operator"], scheme="dark", width=1280
    )
    for summary in await page.locator("summary").all():
        await summary.click()
    assert (await barriers(page), await overflow(page)) == ([], [])

    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 375, "height": 800})
    assert (await barriers(page), await overflow(page)) == ([], [])
