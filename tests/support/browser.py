"""A real browser, Debian's Chromium, and all that goes wrong in its pages."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.support.clients import axe_core, package_missing, skip_without_services

try:
    from playwright.async_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Dialog,
        Locator,
        Page,
        Request,
        Response,
        Route,
        ViewportSize,
        WebError,
        async_playwright,
        expect,
    )
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("no playwright: SERVICES=1 make setup", allow_module_level=True)

__all__ = ["Browser", "Dialog", "Locator", "Page", "Route", "ViewportSize", "browser", "expect", "visitor"]

LAN_NAME = "media.test"
"""A name of this machine that is not localhost: over http Chromium does not say where a request came from."""
BEGINNING = "^answer: 503 "
"""What pages get, and try again, from a server that has just begun: it has seen no catalog yet."""
Scheme = Literal["light", "dark"]
_PATIENCE_MS = 20_000  # on a busy machine
_NO_CSP_VIOLATION = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`)
);
"""
_AXE = """async (rules) => {
    const only = rules.length ? { runOnly: rules } : {};
    const { violations } = await axe.run(document, { resultTypes: ["violations"], ...only });
    const places = (found) => found.nodes.map((node) => node.html.slice(0, 200)).join(" | ");
    return violations.map((found) => `${found.id}: ${found.help}: ${places(found)}`);
}"""

_OVERFLOW = """() => {
    const edge = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= edge) return [];
    const isWide = (one) => one.getBoundingClientRect().right > edge;
    return [...document.querySelectorAll("body *")].filter(isWide).map((one) => one.outerHTML.slice(0, 120));
}"""
# Of the radio buttons of a group Tab reaches one alone.
_CONTROLS = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex='-1'])"
)].filter((one) => one.checkVisibility() && !one.disabled && one.type !== "hidden" && one.type !== "radio")"""
# Once a key is up, what it has focused is in its place. Who has left the page by Tab is not heard of.
_FOLLOW = """(controls) => {
    const steps = [];
    addEventListener("keyup", () => {
        const one = document.activeElement;
        const { outlineStyle, outlineWidth } = getComputedStyle(one);
        const box = one.getBoundingClientRect();
        const isInside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
        const isOutlined = outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
        steps.push([controls.indexOf(one), isInside && isOutlined, one.outerHTML.slice(0, 200)]);
    });
    return steps;
}"""


@dataclass
class BrowserUser:
    """Opens pages, each as another person with a browser of their own, and notes what goes wrong in them."""

    browser: Browser
    expected: list[str] = field(default_factory=list)
    """Patterns of what a test has go wrong."""
    wrong: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    async def open(
        self,
        url: str,
        *,
        password: str = "",
        scheme: Scheme = "light",
        width: int = 1280,
        script: bool = True,
    ) -> Page:
        """A new tab of a new person, at that address."""
        context = await self.browser.new_context(
            color_scheme=scheme,
            http_credentials={"username": "operator", "password": password} if password else None,
            ignore_https_errors=True,
            java_script_enabled=script,
            locale="en-GB",
            reduced_motion="reduce",
            timezone_id="UTC",
            viewport={"width": width, "height": 800},
        )
        context.set_default_timeout(_PATIENCE_MS)
        self._contexts.append(context)
        self._watch(context, _origin(url))
        if script:
            await context.add_init_script(_NO_CSP_VIOLATION)
        page = await context.new_page()
        await page.goto(url)
        return page

    async def open_beside(self, page: Page, url: str) -> Page:
        """Another tab of the same person."""
        beside = await page.context.new_page()
        await beside.goto(url)
        return beside

    async def leave(self) -> list[str]:
        """Close all; returns what went wrong unexpectedly."""
        for context in self._contexts:
            await context.close()
        return [one for one in self.wrong if not any(re.search(known, one) for known in self.expected)]

    def _watch(self, context: BrowserContext, home: str) -> None:
        def asked(request: Request) -> None:
            if _origin(request.url) != home and not request.url.startswith(("data:", "blob:")):
                self.wrong.append(f"foreign request: {request.url}")

        context.on("request", asked)
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)
        context.on("console", self._said)
        context.on("weberror", self._threw)

    def _failed(self, request: Request) -> None:
        # What a page has not got yet when the browser leaves it.
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"request failed: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status != 401:  # first asked, then the password is said
            self.wrong.append(f"answer: {response.status} {response.request.method} {response.url}")

    def _said(self, message: ConsoleMessage) -> None:
        # That a request failed is told of the request itself.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.wrong.append(f"console {message.type}: {message.text}")

    def _threw(self, error: WebError) -> None:
        self.wrong.append(f"page error: {error.error}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@asynccontextmanager
async def opened_browser() -> AsyncIterator[Browser]:
    """Chromium, without a window."""
    # The shell has neither windows nor profiles to set up for each person: a page takes a third of the CPU.
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if chromium is None:
        package_missing("no chromium: apt-get install chromium-headless-shell")
    options = [f"--host-resolver-rules=MAP {LAN_NAME} 127.0.0.1"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=options)
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for the tests of a module, which share its loop: `asyncio(loop_scope="module")`."""
    skip_without_services()
    expect.set_options(timeout=_PATIENCE_MS)
    async with opened_browser() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser: Browser) -> AsyncIterator[BrowserUser]:
    """Who opens pages, in which nothing goes wrong but what the test expects."""
    one = BrowserUser(browser)
    yield one
    wrong = await one.leave()
    assert wrong == [], "\n".join(wrong)


async def barriers(page: Page, *rules: str) -> list[str]:
    """What axe-core finds in a page that keeps people out, by all of its rules or by some."""
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(axe_core().read_text())
    found: list[str] = await page.evaluate(_AXE, rules)
    return found


async def overflow(page: Page) -> list[str]:
    """What of a page reaches beyond its right edge, if one has to scroll sideways to see it."""
    found: list[str] = await page.evaluate(_OVERFLOW)
    return found


async def tab_through(page: Page) -> tuple[list[str], list[str]]:
    """The controls that the Tab key does not reach, and those that it reaches invisibly."""
    controls = await page.evaluate_handle(_CONTROLS)
    names: list[str] = await controls.evaluate(
        "(controls) => controls.map((one) => one.outerHTML.slice(0, 200))"
    )
    steps = await controls.evaluate_handle(_FOLLOW)
    for _ in range(len(names) + 2):
        await page.keyboard.press("Tab")
    reached: set[int] = set()
    unseen: list[str] = []
    for index, is_seen, name in await steps.json_value():
        if index in reached:
            break
        reached.add(index)
        if index >= 0 and not is_seen:
            unseen.append(name)
    return [name for index, name in enumerate(names) if index not in reached], unseen
