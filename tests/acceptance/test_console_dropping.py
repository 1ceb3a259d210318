"""Pictures dropped on the console in a real browser: several at once, with what becomes of each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.browser import BEGINNING, BrowserUser, Page, Route, barriers, browser, expect, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.console_site import ConsoleSite, site
from tests.support.pictures import medium, small

__all__ = ["browser", "site", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module"), pytest.mark.rotating(2, of="module")]

CHOOSER = "Choose a picture"
HOSTILE = "<img src=x onerror=alert(1)>\u202egpj.jpg"
_DROP = """(files) => {
    const transfer = new DataTransfer();
    for (const { name, bytes } of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
    const event = { dataTransfer: transfer, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new DragEvent("drop", event));
}"""


@asynccontextmanager
async def signed_out(page: Page, url: str) -> AsyncIterator[None]:
    """A proxy answers with a page to sign in at."""

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<!doctype html><h1>Sign in</h1>")

    await page.route(url, answer)
    try:
        yield
    finally:
        await page.unroute(url)


@pytest_asyncio.fixture(loop_scope="module")
async def page(visitor: BrowserUser, site: ConsoleSite) -> Page:
    """Where an operator drops pictures."""
    return await visitor.open(site.url("/drop"), password=site.secrets["operator"])


async def drop(page: Page, **files: bytes) -> None:
    """Drop these on the page, as if they came from another window."""
    await page.evaluate(_DROP, [{"name": name, "bytes": list(content)} for name, content in files.items()])


@pytest.mark.rotating(1)
async def test_several_pictures_are_dropped_at_once_and_each_shows_what_became_of_it(
    visitor: BrowserUser, page: Page
) -> None:
    visitor.expected = ["answer: 415"]
    await drop(
        page, **{"one.jpg": small(1), "notes.pdf": b"%PDF-1.7", HOSTILE: small(2), "four.jpg": small(3)}
    )
    rows = page.locator(".drop-rows > li")

    await expect(rows).to_have_count(4)
    await expect(page.locator('.drop-rows > [data-state="ready"] img')).to_have_count(3)
    await expect(rows.nth(1)).to_contain_text("This is a PDF document")
    await expect(rows.nth(2).locator(".drop-name")).to_have_text(
        r"<img src=x onerror=alert(1)>\u{202e}gpj.jpg"
    )
    await expect(page.locator("#announcement")).not_to_be_empty()
    assert await page.locator("progress:visible").count() == 0
    assert await barriers(page) == []
    await rows.nth(2).get_by_role("link", name="Show the upload").click()
    await expect(page.locator(".own-name")).to_have_text(r"<img src=x onerror=alert(1)>\u202egpj.jpg")


async def test_pictures_can_be_dropped_on_any_page_and_stay_in_sight_while_that_is_refreshed(
    visitor: BrowserUser, site: ConsoleSite
) -> None:
    page = await visitor.open(site.url("/uploads"), password=site.secrets["operator"], width=375)
    before = await page.locator("#content img").count()
    await drop(page, **{"five.jpg": small(5), "six.jpg": small(6)})
    beside = page.get_by_role("complementary", name="Dropped pictures")

    await expect(beside.locator("li[data-state=ready] img")).to_have_count(2)
    await expect(page.locator("#content img")).to_have_count(before + 2)
    assert await barriers(page) == []
    await beside.get_by_role("button", name="Close").click()
    await expect(beside).to_be_hidden()


async def test_without_script_a_form_sends_one_picture_and_the_page_of_its_upload_can_be_reloaded(
    visitor: BrowserUser, site: ConsoleSite, tmp_path: Path
) -> None:
    (tmp_path / "plain.jpg").write_bytes(small(9))
    page = await visitor.open(site.url("/drop"), password=site.secrets["operator"], script=False)
    await page.get_by_label(CHOOSER).set_input_files(tmp_path / "plain.jpg")
    await page.get_by_role("button", name="Upload").click()
    await page.wait_for_url("**/console/uploads/*")
    upload_id = page.url.rpartition("/")[2]
    await asyncio.to_thread(site.place.listen, lambda all_: any(one["id"] == upload_id for one in all_))
    await page.get_by_role("link", name="load it again").click()

    await expect(page.locator("#content .state-ready").first).to_be_visible()


async def test_what_the_server_says_of_30_mb_is_read_and_is_no_network_error(
    visitor: BrowserUser, page: Page, tmp_path: Path
) -> None:
    visitor.expected = ["answer: 413"]
    (tmp_path / "large.jpg").write_bytes(small() + bytes(30_000_000))
    await page.locator("#drop form").evaluate("(form) => (form.dataset.mostBytes = 1e9)")
    await page.get_by_label(CHOOSER).set_input_files(tmp_path / "large.jpg")

    await expect(page.locator(".drop-refused")).to_have_text("An upload has at most 10 MiB.")


async def test_a_picture_whose_server_was_away_is_sent_again_by_a_button_and_is_one_upload(
    visitor: BrowserUser, site: ConsoleSite, page: Page
) -> None:
    visitor.expected = ["request failed: .* net::ERR_", "ERR_INCOMPLETE_CHUNKED_ENCODING", BEGINNING]
    before = len(site.place.storage.keys("uploads"))
    site.face.kill()
    await drop(page, **{"late.jpg": medium(7)})
    again = page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    site.start_again()
    await again.click()

    await expect(page.locator('.drop-rows > [data-state="ready"] img')).to_have_count(1)
    await expect(again).to_be_hidden()
    assert len(site.place.storage.keys("uploads")) == before + 1


async def test_a_page_of_a_proxy_to_sign_in_at_is_no_word_that_a_picture_is_stored(
    page: Page, site: ConsoleSite
) -> None:
    async with signed_out(page, site.url("/uploads")):
        await drop(page, **{"nine.jpg": small(9)})
        refused = page.locator(".drop-refused")
        await expect(refused).to_contain_text("load this page again")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator(".drop-rows > [data-state=ready]")).to_have_count(1)
