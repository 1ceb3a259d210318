"""The console in a browser that runs no script: everything is links and forms."""

from pathlib import Path

import pytest

from tests.support.browser import BrowserUser, browser, expect, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.console_site import ConsoleSite, filled, site
from tests.support.pictures import medium, small

__all__ = ["browser", "filled", "site", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]


async def test_what_failed_is_mended_and_tried_again_after_a_confirmation(
    visitor: BrowserUser, filled: ConsoleSite
) -> None:
    page = await visitor.open(filled.url("/failures"), password=filled.secrets["operator"], script=False)
    filled.place.put("uploads/torn.jpg", medium())
    await page.get_by_label("Tick uploads/torn.jpg").check()
    await page.get_by_role("button", name="Retry ticked").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Retry 1 failed upload?")
    await page.get_by_role("button", name="Retry 1").click()
    filled.place.await_end_of("uploads/torn.jpg", times=2)
    await page.reload()

    await expect(page.get_by_role("status").filter(has_text="1 was tried again: 1 ready")).to_be_visible()
    assert await page.get_by_text("uploads/torn.jpg").count() == 0


async def test_a_picture_of_30_mb_is_told_the_limit(
    visitor: BrowserUser, filled: ConsoleSite, tmp_path: Path
) -> None:
    visitor.expected = ["answer: 413"]
    (tmp_path / "large.jpg").write_bytes(small() + bytes(30_000_000))
    page = await visitor.open(filled.url("/drop"), password=filled.secrets["operator"], script=False)
    await page.get_by_label("Choose a picture").set_input_files(tmp_path / "large.jpg")
    await page.get_by_role("button", name="Upload").click()

    await expect(page.locator("main")).to_contain_text("at most 10 MiB")
