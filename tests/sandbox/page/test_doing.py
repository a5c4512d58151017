"""Actions on the page in a real Chromium."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, expect

from salesmachine_async.sandbox import Fault, RateLimit, Sandbox
from tests.sandbox.conftest import TOKEN, Client

from .conftest import WORKSPACE, Look, new_context

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.one_python]


async def test_pause_and_resume(look: Look, client: Client) -> None:
    """While the page is paused, new messages are counted and the server continues."""
    await client.track("1", "before")
    page = await look.open()
    await expect(look.rows()).to_have_count(1)
    await page.get_by_role("button", name="Pause").click()
    await client.post("/v1/batch", [{"method": "event", "contact_uid": "1", "event_uid": "during"}] * 3)
    await expect(page.locator("#connection-text")).to_have_text("Paused: 3 messages, 1 request waiting")
    await expect(look.rows()).to_have_count(1)
    await look.figure("events", "1")
    await page.get_by_role("button", name="Resume").click()
    await expect(look.rows()).to_have_count(4)
    await look.figure("events", "4")
    await expect(page.locator("#connection-text")).to_have_text("Live")


async def test_reset_asks(look: Look, client: Client) -> None:
    """Escape and Cancel change nothing; only the button resets, and only this workspace."""
    await client.track("1", "mine")
    await client.of("other").track("1", "other")
    page = await look.open(f"#events?workspace={WORKSPACE}")
    dialog = page.get_by_role("dialog", name="Reset this workspace?")
    await page.keyboard.press("r")
    await expect(dialog).to_contain_text("1 event, 1 contact, 0 accounts")
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await page.get_by_role("button", name="Reset").click()
    async with page.expect_download() as download:
        await dialog.get_by_role("link", name="Export it first").click()
    assert (await download.value).suggested_filename == "workspace.ndjson"
    await dialog.get_by_role("button", name="Cancel").click()
    assert look.sandbox.summary(TOKEN)["events"] == 1
    await page.get_by_role("button", name="Reset").click()
    await dialog.get_by_role("button", name="Reset").click()
    await look.figure("events", "0")
    await expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_visible()
    assert look.sandbox.summary(TOKEN)["events"] == 0
    assert look.sandbox.summary("other")["events"] == 1


async def test_a_fault_switch_makes_the_next_requests_fail(look: Look, client: Client) -> None:
    """Faults are added and removed with one click each, and the remaining ones are shown."""
    await client.track("1", "x")
    page = await look.open()
    badge = page.locator("#faults-badge")
    await page.get_by_role("button", name="Faults").click()
    await page.get_by_role("button", name="503").click()
    await expect(page.locator("#fault-list")).to_contain_text("answer 503")
    await expect(page.locator("#fault-list")).to_contain_text("2 times")
    assert (await client.post("/v1/ping")).status == 503
    await expect(page.locator("#fault-list")).to_contain_text("once")
    await page.get_by_role("button", name="429, wait 2 s").click()
    await expect(badge).to_have_text("2")
    assert (await client.post("/v1/ping")).status == 503
    answer = await client.post("/v1/ping")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "2")
    assert (await client.post("/v1/ping")).status == 200
    await expect(page.locator("#fault-list")).to_contain_text("None")
    await page.get_by_role("button", name="Outage").click()
    await page.get_by_role("button", name="Drop after accepting").click()
    await expect(badge).to_have_text("2")
    await page.get_by_role("button", name="Remove: answer 503").click()
    await expect(badge).to_have_text("1")
    assert look.sandbox.faults_left(TOKEN) == [Fault(drop="after")]
    await page.get_by_role("button", name="Remove all").click()
    await expect(badge).to_be_hidden()
    assert look.sandbox.faults_left(TOKEN) == []


async def test_every_preset_is_taken(look: Look, client: Client) -> None:
    """The presets reach the server in order, for a workspace or for the whole server."""
    await client.post("/v1/ping")
    page = await look.open()
    await page.keyboard.press("f")
    await page.get_by_label("the whole server").check()
    presets = page.locator("#presets button")
    count = await presets.count()
    # Rapid clicks: no fault is lost.
    await presets.evaluate_all("(buttons) => buttons.forEach((button) => button.click())")
    await expect(page.locator("#fault-list li")).to_have_count(count)
    await expect(page.locator("#faults-problem")).to_be_hidden()
    assert len(look.sandbox.faults_left()) == count
    assert look.sandbox.faults_left(TOKEN) == []


async def test_a_fault_of_ones_own(look: Look, client: Client) -> None:
    """Every field of the form is sent; an error of the server is shown verbatim."""
    await client.post("/v1/ping")
    page = await look.open()
    await page.keyboard.press("f")
    await page.get_by_text("A fault of your own").click()
    values = {"Status": "502", "Times": "", "Path": "/v1/batch", "Retry-After": "soon", "Probability": "0.5"}
    values |= {"Wait first, s": "0.25", "Seed of chance": "7", "Apply only": "2", "Body of the answer": "<b>"}
    for label, value in values.items():
        await page.get_by_label(label, exact=True).fill(value)
    await page.get_by_label("Apply, though it fails").check()
    await page.get_by_role("button", name="Add this fault").click()
    await expect(page.locator("#fault-list")).to_contain_text("answer 502, Retry-After soon, wait 0.25 s")
    assert look.sandbox.faults_left(TOKEN) == [
        Fault(
            status=502,
            times=None,
            path="/v1/batch",
            retry_after="soon",
            probability=0.5,
            latency=0.25,
            seed=7,
            partial=2,
            body="<b>",
            commit=True,
        )
    ]
    look.expected = "status of 400"
    await page.get_by_label("Path", exact=True).fill("nowhere")
    await page.get_by_role("button", name="Add this fault").click()
    await expect(page.locator("#faults-problem")).to_have_text("path must start with /")


async def test_rate_limit(look: Look, client: Client) -> None:
    """The rate limit is set and removed, and changes by others are shown."""
    await client.post("/v1/ping")
    look.sandbox.rate_limit(RateLimit(requests=3, per=2.5))
    page = await look.open()
    await expect(page.locator("#faults-badge")).to_have_text("limit")
    await page.keyboard.press("f")
    switch = page.get_by_role("switch", name="Rate limit")
    await expect(switch).to_be_checked()
    await expect(page.locator("#limit-per")).to_have_value("2.5")
    await switch.click()
    await expect(switch).not_to_be_checked()
    assert (await client.get("rate-limit"))["rate_limit"] is None
    await page.locator("#limit-requests").fill("1")
    await page.locator("#limit-per").fill("100")
    await switch.click()
    await expect(switch).to_be_checked()
    assert [(await client.post("/v1/ping")).status for _ in range(2)] == [200, 429]


async def test_only_with_the_keyboard(look: Look, client: Client) -> None:
    """The table, the details, the filter and the faults can be used by keyboard alone."""
    for n in range(5):
        await client.track(f"c{n}", f"event-{n}")
    page = await look.open()
    await expect(look.rows()).to_have_count(5)
    press, name = page.keyboard.press, page.locator("#details .name")
    await press("j")
    await expect(page.locator("#grid")).to_be_focused()
    await press("ArrowDown")
    await press("ArrowDown")
    await press("k")
    await expect(page.locator("#window [aria-selected=true]")).to_contain_text("event-3")
    active = await page.locator("#grid").get_attribute("aria-activedescendant")
    await expect(page.locator(f"#{active}")).to_contain_text("event-3")
    await press("Enter")
    await expect(name).to_have_text("event-3")
    await expect(page.locator("#details-title")).to_be_focused()
    await press("j")
    await expect(name).to_have_text("event-2")
    await expect(page.locator("#details")).to_have_attribute("aria-busy", "false")
    await expect(page.locator("#grid")).to_be_focused()
    await press("c")
    await expect(page.locator("#toast")).to_have_text("Copied: JSON")
    await press("Escape")
    await expect(page.locator("#details")).to_be_hidden()
    await expect(page.locator("#grid")).to_be_focused()
    await press("End")
    await expect(page.locator("#window [aria-selected=true]")).to_contain_text("event-0")
    await press("/")
    await page.keyboard.type("event-4")
    await press("Enter")
    await expect(look.rows()).to_have_count(1)
    await press("/")
    await press("Escape")
    await expect(look.rows()).to_have_count(5)
    await press("Escape")
    await expect(page.locator("#grid")).to_be_focused()
    for number, tab in enumerate(("Events", "Contacts", "Accounts", "Requests", "Rejected"), 1):
        await press(str(number))
        await expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
    await page.get_by_role("tab", name="Rejected").focus()
    await press("ArrowLeft")
    await expect(page.get_by_role("tab", name="Requests")).to_be_focused()
    await press("p")
    await expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    await press("p")
    await press("f")
    await expect(page.get_by_role("button", name="503")).to_be_focused()
    await press("Enter")
    await expect(page.locator("#faults-badge")).to_have_text("1")
    await press("Escape")
    await press("?")
    await expect(page.get_by_role("dialog", name="Help")).to_contain_text("next and previous row")
    await press("Escape")
    await expect(page.get_by_role("dialog", name="Help")).to_be_hidden()


async def test_light_and_dark(browser: Browser, sandbox: Sandbox) -> None:
    """The theme follows the system until the user selects one, which is stored."""
    for scheme, other in (("light", "dark"), ("dark", "light")):
        context = await new_context(browser, color_scheme=scheme)
        look = Look(await context.new_page(), sandbox)
        page = await look.open()
        ground = "getComputedStyle(document.body).backgroundColor"
        own = await page.evaluate(ground)
        assert own == {"light": "rgb(247, 247, 245)", "dark": "rgb(20, 21, 23)"}[scheme]
        await page.keyboard.press("t")
        await expect(page.locator("html")).to_have_attribute("data-theme", other)
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-theme", other)
        assert await page.evaluate(ground) != own
        assert look.complaints == []
        await context.close()


async def test_the_server_restarts(look: Look, client: Client) -> None:
    """The page shows since when the connection is lost, and reconnects."""
    await client.track("1", "old")
    page = await look.open()
    await expect(look.rows("old")).to_have_count(1)
    port = urlsplit(look.sandbox.url).port
    assert port is not None
    look.expected = "net::ERR_"
    await look.sandbox.aclose()
    text = page.locator("#connection-text")
    await expect(text).to_have_text(re.compile(r"Disconnected since \d\d:\d\d:\d\d"))
    async with Sandbox(port=port) as again:
        await expect(text).to_have_text("Live")
        await look.figure("events", "0")
        await client.track("1", "new")
        await expect(look.rows("new")).to_have_count(1)
        await expect(look.rows("old")).to_have_count(0)
        assert again.summary()["events"] == 1
        await page.goto("about:blank")


async def test_a_hidden_page_is_quiet(look: Look, client: Client) -> None:
    """A hidden page closes its connection, and catches up when it becomes visible."""
    await client.track("1", "x")
    page = await look.open()
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    async with page.expect_event("requestfailed", lambda request: "/stream" in request.url):
        await page.evaluate(hide, True)
    await client.track("1", "y")
    await expect(look.rows()).to_have_count(1)
    await page.evaluate(hide, False)
    await expect(look.rows()).to_have_count(2)
    await look.figure("events", "2")


@pytest.mark.parametrize("width", [380, 820, 1600])
async def test_every_width(browser: Browser, sandbox: Sandbox, client: Client, width: int) -> None:
    """Nothing overflows a narrow window, whatever is open."""
    await client.contact("ann", account_uid="acme", text="long " * 100)
    await client.track("ann", "order" * 20, amount=9)
    context = await new_context(browser, width, 760)
    look = Look(await context.new_page(), sandbox)
    page = await look.open()
    await expect(look.rows()).to_have_count(1)
    over = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth"
    for key in ("1", "2", "3", "4", "5", "f", "Escape", "r", "Escape", "?", "Escape", "2"):
        await page.keyboard.press(key)
        assert await page.evaluate(over) <= 0, key
    await expect(look.rows("ann")).to_have_count(1)
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.locator("#details")).to_contain_text("Time line")
    assert await page.evaluate(over) <= 0
    inside = "document.querySelector('#details').scrollWidth - document.querySelector('#details').clientWidth"
    assert await page.evaluate(inside) <= 0
    assert look.complaints == []
    await context.close()
