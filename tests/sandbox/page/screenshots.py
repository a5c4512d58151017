"""
Screenshots of the page of a real sandbox: ``python -m tests.sandbox.page.screenshots docs/``.

It runs a sandbox, sends it a minute of a web shop's traffic through the agent, with some faults, and looks at it.
With ``--all`` it also takes the screenshots that are needed only for changes of the page.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from playwright.async_api import Browser, Page, async_playwright, expect

from salesmachine_async import Agent, Batching
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.sandbox.http.auth import workspace_of
from tests.sandbox.conftest import Client

from .conftest import FLAGS, Look, chromium, new_context
from .test_hostile import TOKEN as HOSTILE
from .test_hostile import send_all
from .test_showing import lines

TOKEN = "sandbox"
PEOPLE = ("Ann Lee", "Bo Chen", "Chris Diaz", "Dana Fox", "Eli Green", "Fay Hill", "Gus Ivers", "Hana Jun")
FIRMS = ("Acme Inc", "Globex", "Initech")
EVENTS = ("order_created", "login", "invoice_paid", "project_shared", "trial_extended", "pageview")


def record(agent: Agent, dice: random.Random) -> None:
    """Simulate one visitor."""
    number = dice.randrange(len(PEOPLE))
    uid, event = f"user-{1000 + number}", dice.choice(EVENTS)
    params: dict[str, object] = {"visit_url": f"/projects/{dice.randrange(90)}"}
    if event in ("order_created", "invoice_paid"):
        params = {"amount": round(dice.uniform(9, 900), 2), "currency": "EUR", "items": [{"sku": "A-17", "n": 2}]}
    agent.track(uid, event, params)


async def traffic(sandbox: Sandbox, seconds: float) -> None:
    """Send the traffic of a small shop in waves, with an outage in the middle."""
    dice = random.Random(7)
    async with Agent(TOKEN, base_url=sandbox.url, batching=Batching(linger=0.4)) as agent:
        for number, name in enumerate(FIRMS):
            agent.account(f"acct-{number}", {"name": name, "mrr": 49.0 * (number + 1), "employee_count": 24 + number})
        for number, name in enumerate(PEOPLE):
            email = f"{name.lower().replace(' ', '.')}@example.com"
            params = {"name": name, "email": email, "account_uid": f"acct-{number % 3}"}
            agent.contact(f"user-{1000 + number}", {**params, "plan": dice.choice(["free", "pro"])})
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (passed := loop.time() - begun) < seconds:
            if 0.5 < passed / seconds < 0.51:
                sandbox.faults([Fault(status=503, times=2, retry_after=0.2), Fault(drop="after")], TOKEN)
            for _ in range(round(dice.uniform(0.4, 1) * (6 + 5 * math.sin(passed / 6)))):
                record(agent, dice)
            await asyncio.sleep(0.25)
        agent.contact("user-1001", {"plan": "enterprise", "seats": 25})
        agent.alias("user-1001", "bo@example.com")
        agent.track("user-1001", "order_created", {"amount": 1290.0, "currency": "EUR", "coupon": None})
    async with aiohttp.ClientSession() as session:
        await Client(session, sandbox.url, TOKEN).post("/v1/batch", [{"method": "event", "contact_uid": "user-1002"}])


async def shoot(
    browser: Browser,
    sandbox: Sandbox,
    path: Path,
    view: str = "",
    act: Callable[[Page], Awaitable[None]] | None = None,
    *,
    width: int = 1360,
    height: int = 800,
    scheme: str = "light",
) -> None:
    """Take one screenshot."""
    context = await new_context(browser, width, height, color_scheme=scheme)
    look = Look(await context.new_page(), sandbox)
    page = await look.open(view)
    await expect(page.locator("#scroller:visible #window tr[data-index], #nothing h2").first).to_be_visible()
    if act is not None:
        await act(page)
    await page.wait_for_timeout(700)
    await page.screenshot(path=path)
    print(path, path.stat().st_size // 1000, "kB", *look.complaints)  # noqa: T201 - it is a program
    await context.close()


async def all_others(browser: Browser, sandbox: Sandbox, folder: Path) -> None:
    """Take the screenshots of the other views."""
    mine = f"workspace={workspace_of(TOKEN)}"
    for scheme in ("light", "dark"):
        for name, view, key in (
            ("contact", f"#contacts?{mine}&open=contact:user-1001", ""),
            ("account", f"#accounts?{mine}&open=account:acct-1", ""),
            ("requests", f"#requests?{mine}&q=503", ""),
            ("request", f"#requests?{mine}&open=request:3", ""),
            ("rejected", f"#rejected?{mine}", "j"),
            ("faults", f"#events?{mine}", "f"),
            ("help", f"#events?{mine}", "?"),
            ("reset", f"#events?{mine}", "r"),
            ("paused", f"#events?{mine}", "p"),
        ):

            async def press(page: Page, key: str = key) -> None:
                if key:
                    await page.keyboard.press(key)

            await shoot(browser, sandbox, folder / f"{name}-{scheme}.png", view, press, scheme=scheme)
    for name, view in (("narrow", f"#events?{mine}"), ("narrow-contact", f"#contacts?{mine}&open=contact:user-1001")):
        await shoot(browser, sandbox, folder / f"{name}.png", view, width=380, height=760)
    await shoot(browser, sandbox, folder / "wide.png", f"#events?{mine}", width=1600, height=900)
    async with Sandbox() as empty:
        await shoot(browser, empty, folder / "empty.png")
        await shoot(browser, empty, folder / "empty-narrow.png", width=380, height=760, scheme="dark")
    async with Sandbox() as large:
        large.replay(lines(50_000), TOKEN)
        await shoot(browser, large, folder / "many.png")
    async with Sandbox() as bad, aiohttp.ClientSession() as session:
        await send_all(Client(session, bad.url))
        hostile = f"workspace={workspace_of(HOSTILE)}"
        for tab in ("events", "contacts", "requests", "rejected"):
            await shoot(browser, bad, folder / f"hostile-{tab}.png", f"#{tab}?{hostile}", _first, scheme="dark")
        await shoot(browser, bad, folder / "hostile-narrow.png", f"#events?{hostile}", width=380, height=760)


async def _down_to_it(page: Page) -> None:
    """Scroll the selected row into view."""
    while not await page.locator("#window [aria-selected=true]").count():
        await page.evaluate("document.getElementById('scroller').scrollTop += 400")
    await page.evaluate("document.querySelector('#window [aria-selected=true]').scrollIntoView({ block: 'center' })")


async def _first(page: Page) -> None:
    for key in ("j", "j", "j", "j", "Enter"):
        await page.keyboard.press(key)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seconds", type=float, default=100.0)
    given = parser.parse_args()
    async with Sandbox() as sandbox, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        await traffic(sandbox, given.seconds)
        mine = f"workspace={workspace_of(TOKEN)}"
        await shoot(browser, sandbox, given.folder / "sandbox-page.png", f"#events?{mine}&open=contact:user-1001")
        dropped = next(each["id"] for each in sandbox.requests(TOKEN) if each["status"] is None)
        view = f"#requests?{mine}&open=request:{dropped}"
        await shoot(browser, sandbox, given.folder / "sandbox-page-dark.png", view, _down_to_it, scheme="dark")
        if given.all:
            await all_others(browser, sandbox, given.folder)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
