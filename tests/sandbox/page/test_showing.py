"""Live display of the page in a real Chromium."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from playwright.async_api import expect

from tests.sandbox.conftest import TOKEN, Client

from .conftest import WORKSPACE, Look

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.one_python]


def lines(count: int) -> Any:
    """Send events of several contacts, one of which a filter can find."""
    for n in range(count):
        params = {"n": n, "text": "a needle" if n == count // 2 else "hay"}
        yield orjson.dumps(
            {"method": "event", "contact_uid": f"c{n % 500}", "event_uid": f"e{n % 7}", "params": params}
        )


async def test_an_empty_sandbox_teaches(look: Look, client: Client) -> None:
    """The page shows how to send a message, and follows the first workspace that appears."""
    page = await look.open()
    await expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_visible()
    for text in (f"export SALESMACHINE_API_URL='{look.sandbox.url}'", "curl -u", "async with Agent("):
        await expect(page.locator("#nothing pre").filter(has_text=text)).to_have_count(1)
    await page.locator("#nothing").get_by_role("button", name="Copy: Environment").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == f"export SALESMACHINE_API_URL='{look.sandbox.url}' SALESMACHINE_API_TOKEN=sandbox\n"
    await client.track("first", "login")
    await expect(look.rows("login")).to_have_count(1)
    await expect(page.locator("#workspace")).to_have_value(WORKSPACE)
    assert f"workspace={WORKSPACE}" in page.url


async def test_an_event_can_be_sent_from_the_page(look: Look) -> None:
    """The welcome panel sends example messages."""
    page = await look.open()
    await page.get_by_role("button", name="Send an event from here").click()
    await expect(look.rows("user_registration")).to_have_count(1)
    assert look.sandbox.events("sandbox")[0]["contact_uid"] == "123456"


async def test_updates_arrive_live(look: Look, client: Client) -> None:
    """Counters, rows and the chart follow the messages, newest first."""
    await client.track("1", "first")
    page = await look.open()
    await expect(look.rows()).to_have_count(1)
    await client.contact("2", account_uid="acme")
    await client.track("2", "second", plan="pro")
    item = {"method": "event", "contact_uid": "1", "event_uid": "third", "messageId": "m"}
    await client.post("/v1/batch", [item, item])
    await client.post("/v1/batch", [{"method": "no"}])
    await expect(look.rows()).to_have_count(3)
    await expect(look.rows().nth(0)).to_contain_text("third")
    await expect(look.rows().nth(1)).to_contain_text("plan: pro")
    for name, value in (("events", 3), ("contacts", 2), ("accounts", 1), ("requests", 5), ("duplicates", 1)):
        await look.figure(name, str(value))
    await look.figure("rejected", "1")
    await expect(page.locator("#statuses li")).to_have_text(["200 3", "201 1", "400 1"])
    await expect(page.locator("#chart path.ok")).to_have_attribute("d", re.compile("M"))
    await expect(page.locator("#chart path.bad")).to_have_attribute("d", re.compile("M"))
    await expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("Messages per second .* at most"))


async def test_every_tab_shows_its_things(look: Look, client: Client) -> None:
    """Each row opens with its details."""
    await client.contact("ann", email="ann@example.com", account_uid="acme")
    await client.account("acme", name="Acme Inc")
    await client.track("ann", "order", amount=9)
    await client.alias("ann", "ann-2")
    await client.post("/v1/contact", {"contact_uid": "x", "params": 1}, headers={"X-Own": "mine"})
    page = await look.open()
    details = page.locator("#details")
    for tab, row, shown in (
        ("Events", "order", ["Event", '"amount": 9', "ann", "acme"]),
        ("Contacts", "ann@example.com", ["ann-2", '"email": "ann@example.com"', "Time line (3)", "alias", "order"]),
        ("Accounts", "Acme Inc", ['"name": "Acme Inc"', "Contacts (1)", "account updated", "contact updated"]),
        ("Requests", "/v1/track/event", ["200", "Messages (1)", "order", "Content-Type", "application/json"]),
        ("Requests", "params must be an object", ["400", "X-Own", "mine", '"params": 1']),
        ("Rejected", "params must be an object", ["Refused request", "the body", '"params": 1']),
    ):
        await page.get_by_role("tab", name=tab).click()
        await expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        await look.rows(row).click()
        for text in shown:
            await expect(details).to_contain_text(text)
    # Links from one record to another, and back.
    await page.get_by_role("tab", name="Events").click()
    await look.rows("order").click()
    await details.get_by_role("button", name="acme").click()
    await expect(details.locator(".name")).to_have_text("acme")
    await page.go_back()
    await expect(details.locator(".name")).to_have_text("order")
    await details.get_by_role("button", name="Close").click()
    await expect(details).to_be_hidden()


async def test_a_time_line_grows(look: Look, client: Client) -> None:
    """The details of a contact are updated by messages under any of its uids."""
    await client.contact("ann", plan="free")
    await client.alias("ann", "ann-2")
    page = await look.open(f"#contacts?workspace={WORKSPACE}&open=contact:ann")
    details = page.locator("#details")
    await expect(details).to_contain_text("Time line (2)")
    await client.track("ann-2", "upgraded")
    await client.contact("ann", plan="pro")
    await expect(details).to_contain_text("Time line (4)")
    await expect(details).to_contain_text('"plan": "pro"')
    await expect(details.locator(".timeline li").nth(1)).to_contain_text("upgraded")


async def test_a_link_restores_the_view(look: Look, client: Client) -> None:
    """The tab, the filter, the workspace and the open record are in the URL."""
    for n in range(30):
        await client.track(str(n), "red" if n % 2 else "blue")
    await client.of("other").track("1", "elsewhere")
    page = await look.open(f"#events?workspace={WORKSPACE}")
    await page.locator("#filter").fill("red")
    await expect(look.rows()).to_have_count(15)
    await look.rows().nth(3).click()
    await expect(page.locator("#details")).to_contain_text("red")
    view, other = page.url, await page.context.new_page()
    second = Look(other, look.sandbox)
    await second.open(view.removeprefix(look.sandbox.url + "/"))
    await expect(second.rows()).to_have_count(15)
    await expect(other.locator("#filter")).to_have_value("red")
    await expect(other.locator("#details .name")).to_have_text("red")
    await expect(other.locator("#window [aria-selected=true]")).to_have_count(1)
    await expect(other.locator("#workspace")).to_have_value(WORKSPACE)
    assert second.complaints == []
    await page.go_back()
    await expect(page.locator("#details")).to_be_hidden()


async def test_a_link_to_what_is_gone(look: Look, client: Client) -> None:
    """An unknown record is reported as such."""
    await client.track("1", "x")
    look.expected = "status of 404"
    page = await look.open("#nonsense?workspace=<b>&open=contact:nobody&q=&open=event:1")
    await expect(page.locator("#details .problem")).to_have_text(
        "This contact does not exist, or is not kept any more."
    )
    for thing in ("event:99", "event:x", "rejected:7", "nothing:1", "__proto__:1", "account:%00"):
        await page.goto(f"{look.sandbox.url}/#events?open={thing}")
        await expect(page.locator("#details .problem")).to_be_visible()
    await page.goto(f"{look.sandbox.url}/#events?open=request:99")
    await expect(page.locator("#details .problem")).to_have_text("It is not in the log any more, or never was.")


async def test_workspaces(look: Look, client: Client) -> None:
    """The latest workspace is shown first; others can be selected; "all" shows all requests."""
    await client.of("old").track("1", "of-old")
    await client.track("1", "of-mine")
    await client.of("old").track("1", "of-old-again")
    page = await look.open()
    await expect(look.rows("of-old")).to_have_count(2)
    await page.locator("#workspace").select_option(WORKSPACE)
    await expect(look.rows()).to_have_count(1)
    await expect(look.rows("of-mine")).to_have_count(1)
    assert (await client.of(None).post("/v1/ping")).status == 401
    await page.locator("#workspace").select_option("all")
    await expect(page.get_by_role("heading", name="Choose a workspace")).to_be_visible()
    await page.get_by_role("tab", name="Requests").click()
    await expect(look.rows()).to_have_count(4)
    # The text must not be the time of another message that ends in these digits.
    await look.rows(re.compile(r"401\s*POST")).click()
    await expect(page.locator("#details")).to_contain_text("credentials are missing")
    await page.keyboard.press("r")
    await expect(page.locator("#toast")).to_contain_text("Choose one workspace first")
    # A workspace that appears later can be selected as well.
    await client.of("new").track("1", "of-new")
    await expect(page.locator("#workspace option")).to_have_count(4)


async def test_fifty_thousand_events(look: Look) -> None:
    """With many messages the counts are right, the filter finds one, and the document stays small."""
    look.sandbox.replay(lines(50_000), TOKEN)
    page = await look.open()
    await look.figure("events", "50,000")
    await expect(look.rows().nth(0)).to_contain_text("n: 49999")
    await expect(page.locator("#shown")).to_have_text("60 of 50,000 events")
    assert await page.evaluate("document.getElementsByTagName('*').length") < 900
    await page.locator("#filter").fill("A NEEDLE")
    await expect(look.rows()).to_have_count(1)
    await expect(look.rows()).to_contain_text("n: 25000")
    await page.locator("#filter").fill("no such thing")
    await expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    await page.get_by_role("button", name="Clear the filter").click()
    await expect(look.rows("n: 49999")).to_have_count(1)
    # Scroll through several pages of rows.
    for target in ("49936", "49876", "49816"):
        await page.evaluate("document.getElementById('scroller').scrollTop = 1e9")
        await expect(page.locator("#window")).to_contain_text(f"n: {target}")
        assert await look.rows().count() < 60
    await page.get_by_role("tab", name="Contacts").click()
    await expect(page.locator("#shown")).to_have_text("60 of 500 contacts")


async def test_nothing_moves_under_the_eye(look: Look, client: Client) -> None:
    """After scrolling down, newer rows are announced, and shown on demand."""
    look.sandbox.replay(lines(200), TOKEN)
    page = await look.open()
    await expect(look.rows("n: 199")).to_have_count(1)
    await page.evaluate("document.getElementById('scroller').scrollTop = 800")
    await expect(look.rows("n: 199")).to_have_count(0)
    before = await page.locator("#window").inner_text()
    await client.track("1", "newest")
    newer = page.get_by_role("button", name="Newer rows")
    await expect(newer).to_be_visible()
    assert await page.locator("#window").inner_text() == before
    await newer.click()
    await expect(look.rows("newest")).to_have_count(1)
    await expect(newer).to_be_hidden()


async def test_a_filter_goes_on_live(look: Look, client: Client) -> None:
    """New messages are filtered as well, and so are requests and contacts."""
    await client.track("1", "red")
    page = await look.open("#events?q=red")
    await expect(look.rows()).to_have_count(1)
    for event in ("blue", "red", "RED"):
        await client.track("2", event)
    await expect(look.rows()).to_have_count(3)
    await client.post("/v1/contact", {"params": "red"})
    await page.get_by_role("tab", name="Requests").click()
    await page.locator("#filter").fill("400")
    await expect(look.rows()).to_have_count(1)
