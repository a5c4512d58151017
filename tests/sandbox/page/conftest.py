"""A real Chromium on a real sandbox, with one event loop for each test module."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.sandbox.http.auth import workspace_of
from tests.sandbox.conftest import TOKEN, Client

# An upper limit for slow machines; no step waits longer than needed.
PATIENCE_MS = 20_000
WORKSPACE = workspace_of(TOKEN)
expect.set_options(timeout=PATIENCE_MS)

FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
]
# Violations of the policy are errors of the console too; this tells them apart, and tells all of them.
WATCH = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Look:
    """A browser page with the errors it reported."""

    def __init__(self, page: Page, sandbox: Sandbox) -> None:
        self.page = page
        self.sandbox = sandbox
        self.complaints: list[str] = []
        # The browser logs a failed request as an error, also where the test expects it.
        self.expected = "nothing"
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and self.expected not in message.text:
            self.complaints.append(f"console: {message.text}")

    async def open(self, view: str = "", *, live: bool = True) -> Page:
        await self.page.goto(f"{self.sandbox.url}/{view}")
        if live:
            await expect(self.page.locator("#connection-text")).to_have_text("Live")
        return self.page

    async def violations(self) -> list[str]:
        return list(await self.page.evaluate("window.__violations"))

    def rows(self, text: str | re.Pattern[str] | None = None) -> Any:
        rows = self.page.locator("#window tr[data-index]")
        return rows if text is None else rows.filter(has_text=text)

    async def figure(self, name: str, value: str) -> None:
        await expect(self.page.locator(f"#figure-{name}")).to_have_text(value)

    async def copied(self, name: str) -> str:
        """Click a button of the details and read the clipboard."""
        await self.page.locator(f"[data-copy={name}]").click()
        await expect(self.page.locator("#toast")).to_have_text(f"Copied: {name}")
        return str(await self.page.evaluate("navigator.clipboard.readText()"))


def chromium() -> str | None:
    """Return the installed browser; nothing is downloaded."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("there is no chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Client(session, sandbox.url)


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await new_context(browser)
    yield context
    await context.close()


async def new_context(browser: Browser, width: int = 1280, height: int = 800, **more: Any) -> BrowserContext:
    options: Mapping[str, Any] = {"viewport": {"width": width, "height": height}, "reduced_motion": "reduce", **more}
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await context.add_init_script(WATCH)
    return context


@pytest_asyncio.fixture(loop_scope="module")
async def look(context: BrowserContext, sandbox: Sandbox) -> AsyncIterator[Look]:
    """A page whose console errors fail the test, unless the test removes them."""
    look = Look(await context.new_page(), sandbox)
    yield look
    assert await look.violations() == []
    assert look.complaints == []
