"""What nobody gets an operator's browser to do, and what who may only read cannot do at all."""

from collections.abc import Iterator

import pytest

from tests.support.browser import LAN_NAME, BrowserUser, browser, expect, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.console_site import ConsoleSite, filled, site
from tests.support.static_site import StaticSite
from tests.support.tls import TlsProxy, make_certificates
from tests.support.workplace import eventually
from worker.events import default_id

__all__ = ["browser", "filled", "site", "visitor"]
pytestmark = [WITH_SERVICES, pytest.mark.asyncio(loop_scope="module")]

FAILED = default_id("uploads/torn.jpg")
TRAP = f"""<!doctype html><title>Somebody else's page</title><form method="post" action="ACTION">
<input name="id" value="{FAILED}"><input name="confirmed" value="1"><button>Win a prize</button></form>"""
POSTS = {
    "/failures/retry": {"id": str(FAILED)},
    "/failures/discard": {"id": str(FAILED)},
    "/dead-letters/retry": {"id": "1"},
    "/dead-letters/discard": {"id": "1"},
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


async def test_a_form_of_another_site_can_retry_nothing(
    visitor: BrowserUser, filled: ConsoleSite, console: str
) -> None:
    visitor.expected = ["foreign request", "answer: 403"]
    before = filled.face.logged("console_action")
    page = await visitor.open(f"{console}/failures", password=filled.secrets["operator"])
    with StaticSite({"/prize.html": TRAP.replace("ACTION", f"{console}/failures/retry")}) as elsewhere:
        await page.goto(f"http://127.0.0.1:{elsewhere.port}/prize.html")
        async with page.expect_response("**/failures/retry") as answer:
            await page.get_by_role("button", name="Win a prize").click()

    said = await (await answer.value).request.all_headers()
    assert (await answer.value).status == 403
    assert ("sec-fetch-site" in said) is not console.startswith(f"http://{LAN_NAME}")
    await expect(page.get_by_text("Only a page of the console itself may do that.")).to_be_visible()
    assert filled.face.logged("console_action") == before


async def test_the_consoles_own_form_can_retry_under_each_name(
    visitor: BrowserUser, filled: ConsoleSite, console: str
) -> None:
    page = await visitor.open(f"{console}/failures", password=filled.secrets["operator"])
    before = len(filled.face.logged("console_action"))
    await page.locator(f'input[value="{FAILED}"]').check()
    await page.get_by_role("button", name="Retry ticked").click()
    await page.get_by_role("button", name="Retry 1").click()

    await expect(page.get_by_role("status").filter(has_text="tried again")).to_be_visible()
    eventually(lambda: len(filled.face.logged("console_action")) > before)
    done = filled.face.logged("console_action")[before:]
    assert [(one["action"], one["by"], one["count"]) for one in done] == [("retry", "operator", 1)]
    filled.place.await_end_of("uploads/torn.jpg", times=2 + before)


async def test_who_may_only_read_sees_no_buttons_and_is_refused(
    visitor: BrowserUser, filled: ConsoleSite
) -> None:
    visitor.expected = ["answer: 403"]
    page = await visitor.open(filled.url("/failures"), password=filled.secrets["reader"])
    for path in ("/failures", "/dead-letters"):
        await page.goto(filled.url(path))
        assert await page.locator("form[method=post] button, input[type=checkbox]").count() == 0

    for path, field in POSTS.items():
        answer = await page.request.post(
            filled.url(path), form={**field, "confirmed": "1"}, headers={"Origin": filled.face.url}
        )
        assert (path, answer.status) == (path, 403)
