"""Forms of the console in a browser: of its own pages, of other sites, of readers, and without script."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import LAN_NAME, BrowserUser, browser, expect, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.console_site import ConsoleSite, filled, site
from tests.support.pictures import medium, small
from tests.support.static_site import StaticSite
from tests.support.tls import TlsProxy, make_certificates
from tests.support.workplace import eventually
from worker.upload_ids import default_id

__all__ = ["browser", "filled", "site", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]

FAILED = default_id("uploads/torn.jpg")
TRAP = f"""<!doctype html><title>Somebody else's page</title><form method="post" action="ACTION">
<input name="tick" value="{FAILED}"><input name="confirmed" value="1"><button>Win a prize</button></form>"""
POSTS = {
    "/failures/retry": {"tick": str(FAILED)},
    "/failures/discard": {"tick": str(FAILED)},
    "/dead-letters/retry": {"tick": "1"},
    "/dead-letters/discard": {"tick": "1"},
    f"/uploads/{FAILED}/retry": {},
    f"/uploads/{FAILED}/delete": {},
    "/uploads": {},
}
"""What forms of the console are sent to, with what they say."""
NAMES = ("http://127.0.0.1", f"http://{LAN_NAME}", f"https://{LAN_NAME}")


@pytest.fixture(scope="module")
def tls(site: ConsoleSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsProxy]:
    proxy = TlsProxy(site.port, make_certificates(tmp_path_factory.mktemp("certificates")))
    yield proxy
    proxy.close()


@pytest.fixture(params=NAMES)
def console(request: pytest.FixtureRequest, filled: ConsoleSite, tls: TlsProxy) -> str:
    """The address of the console under each kind of name."""
    name: str = request.param
    return f"{name}:{tls.port if name.startswith('https:') else filled.port}/console"


@pytest.mark.rotating(1)
async def test_another_sites_form_can_retry_nothing_and_the_consoles_own_can(
    visitor: BrowserUser, filled: ConsoleSite, console: str
) -> None:
    visitor.expected = ["foreign request", "answer: 403"]
    before = len(filled.face.logged("console_action"))
    page = await visitor.open(f"{console}/failures", password=filled.secrets["operator"])
    with StaticSite({"/prize.html": TRAP.replace("ACTION", f"{console}/failures/retry")}) as elsewhere:
        await page.goto(f"http://127.0.0.1:{elsewhere.port}/prize.html")
        async with page.expect_response("**/failures/retry") as answering:
            await page.get_by_role("button", name="Win a prize").click()
    answer = await answering.value
    await expect(page.get_by_text("Only a page of the console itself may do that.")).to_be_visible()

    await page.goto(f"{console}/failures")
    await page.locator(f'input[value="{FAILED}"]').check()
    await page.get_by_role("button", name="Retry ticked").click()
    await page.get_by_role("button", name="Retry 1").click()
    await expect(page.get_by_role("status").filter(has_text="tried again")).to_be_visible()
    eventually(lambda: len(filled.face.logged("console_action")) > before)
    filled.place.await_end_of("uploads/torn.jpg", times=2 + before)

    says_where_from = "sec-fetch-site" in await answer.request.all_headers()
    done = filled.face.logged("console_action")[before:]
    assert (answer.status, says_where_from) == (403, not console.startswith(f"http://{LAN_NAME}"))
    assert [(one["action"], one["by"], one["count"]) for one in done] == [("retry", "operator", 1)]


async def test_who_may_only_read_sees_no_buttons_and_is_refused(
    visitor: BrowserUser, filled: ConsoleSite
) -> None:
    visitor.expected = ["answer: 403"]
    page = await visitor.open(filled.url("/failures"), password=filled.secrets["reader"])
    for path in ("/failures", "/dead-letters", f"/uploads/{FAILED}"):
        await page.goto(filled.url(path))
        assert await page.locator("form[method=post] button, input[type=checkbox]").count() == 0

    for path, field in POSTS.items():
        answer = await page.request.post(
            filled.url(path), form={**field, "confirmed": "1"}, headers={"Origin": filled.face.url}
        )
        assert (path, answer.status) == (path, 403)


async def test_a_refused_action_leads_back_to_what_was_ticked(
    visitor: BrowserUser, filled: ConsoleSite
) -> None:
    visitor.expected = ["answer: 4"]
    page = await visitor.open(filled.url("/failures"), password=filled.secrets["operator"])
    tick = page.locator(f'input[value="{FAILED}"]')
    await tick.check()
    await page.locator("form [name=tick]").first.evaluate(
        "(tick) => tick.form.insertAdjacentHTML('beforeend', '<input type=hidden name=x value=1>')"
    )
    await page.get_by_role("button", name="Retry ticked").click()
    back = page.get_by_role("link", name="Back")
    await back.wait_for()
    await page.wait_for_load_state()  # before its script has run it leads to a fresh list, as without script
    await back.click()

    await expect(tick).to_be_checked()


async def test_without_script_uploads_are_filtered_and_one_is_opened(
    visitor: BrowserUser, filled: ConsoleSite
) -> None:
    page = await visitor.open(filled.url(), password=filled.secrets["operator"], script=False)
    await page.get_by_role("link", name="Uploads", exact=True).click()
    await page.get_by_role("searchbox").fill("uploads/shop/")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("#count")).to_have_text("6 uploads")
    await page.get_by_role("link", name="3.jpg").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("3.jpg")
    assert page.url == filled.url(f"/uploads/{default_id('uploads/shop/3.jpg')}")


async def test_without_script_what_failed_is_mended_and_tried_again_after_a_confirmation(
    visitor: BrowserUser, filled: ConsoleSite
) -> None:
    page = await visitor.open(filled.url("/failures"), password=filled.secrets["operator"], script=False)
    filled.place.put("uploads/cut.jpg", medium())
    await page.get_by_label("Tick uploads/cut.jpg").check()
    await page.get_by_role("button", name="Retry ticked").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Retry 1 failed upload?")
    await page.get_by_role("button", name="Retry 1").click()
    filled.place.await_end_of("uploads/cut.jpg", times=2)
    await page.reload()

    await expect(page.get_by_role("status").filter(has_text="1 was tried again: 1 ready")).to_be_visible()
    assert await page.get_by_text("uploads/cut.jpg").count() == 0


async def test_without_script_a_picture_of_30_mb_is_told_the_limit(
    visitor: BrowserUser, filled: ConsoleSite, tmp_path: Path
) -> None:
    visitor.expected = ["answer: 413"]
    (tmp_path / "large.jpg").write_bytes(small() + bytes(30_000_000))
    page = await visitor.open(filled.url("/drop"), password=filled.secrets["operator"], script=False)
    await page.get_by_label("Choose a picture").set_input_files(tmp_path / "large.jpg")
    await page.get_by_role("button", name="Upload").click()

    await expect(page.locator("main")).to_contain_text("at most 10 MiB")
