"""Finding, judging and exporting on the page in a real Chromium, by mouse and by keyboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import TOKEN, Client
from tests.sandbox.page.conftest import WORKSPACE, Look, new_context

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

PLAN = {"events": {"order": {"properties": {"amount": {"type": "number"}}}}}


@pytest_asyncio.fixture(loop_scope="module")
async def orders(client: Client) -> None:
    """Send events of two plans."""
    await client.track("ann", "order", plan="pro", amount=9.5)
    await client.track("bob", "order", plan="free", amount=1)
    await client.track("ann", "visit", plan="pro")


async def test_a_click_on_a_value_filters(look: Look, orders: None) -> None:
    """A click on a value, or Enter on it, selects all events with this value; the filter is in the URL."""
    page = await look.open(f"#events?workspace={WORKSPACE}&open=event:1")
    await page.locator("#details .pick").filter(has_text="pro").click()
    await expect(page.locator("#filter")).to_have_value("params.plan=pro")
    await expect(look.rows()).to_have_count(2)
    assert "params.plan" in page.url
    await page.locator("#details .pick").filter(has_text="9.5").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#filter")).to_have_value("params.amount=9.5")
    await expect(look.rows()).to_have_count(1)
    await page.locator("#filter").fill("event_uid=visit")
    await expect(look.rows("visit")).to_have_count(1)


async def test_new_events_are_filtered_by_a_field(look: Look, client: Client, orders: None) -> None:
    """Events that arrive later are filtered as well."""
    await look.open(f"#events?workspace={WORKSPACE}&q=params.plan%3Dpro")
    await expect(look.rows()).to_have_count(2)
    await client.track("eve", "order", plan="free")
    await client.track("eve", "order", plan="pro")
    await expect(look.rows()).to_have_count(3)


async def test_from_an_event_to_its_request_and_back(look: Look, client: Client) -> None:
    """The details of an event lead to the request that brought it, and those lead back."""
    batch = [{"method": "event", "contact_uid": "1", "event_uid": f"e{n}"} for n in range(3)]
    await client.post("/v1/ping")
    await client.post("/v1/batch", batch)
    page = await look.open(f"#events?workspace={WORKSPACE}&open=event:2")
    await expect(page.locator("#details .name")).to_have_text("e1")
    await page.locator("#details .facts button", has_text="2").click()
    await expect(page.locator("#details .name")).to_have_text("POST /v1/batch")
    await page.locator("#details .timeline li", has_text="e2").get_by_role("button", name="open").click()
    await expect(page.locator("#details .name")).to_have_text("e2")
    assert "open=event%3A3" in page.url


async def test_a_link_to_an_event(look: Look, orders: None) -> None:
    """The link of an event is copied, and opens the same event elsewhere."""
    page = await look.open(f"#events?workspace={WORKSPACE}&open=event:2")
    await page.locator("#details-link").click()
    await expect(page.locator("#toast")).to_have_text("Copied: link")
    link = await page.evaluate("navigator.clipboard.readText()")
    other = await page.context.new_page()
    await other.goto(link)
    await expect(other.locator("#details dd", has_text="bob")).to_be_visible()
    await other.close()


async def test_what_is_shown_can_be_exported(look: Look, orders: None, tmp_path: Path) -> None:
    """The rows that match the filter are downloaded as NDJSON."""
    page = await look.open(f"#events?workspace={WORKSPACE}&q=params.plan%3Dpro")
    await expect(look.rows()).to_have_count(2)
    async with page.expect_download() as download:
        await page.locator("#download").click()
    file = tmp_path / "events.ndjson"
    await (await download.value).save_as(file)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["event_uid"] for event in events] == ["visit", "order"]
    assert (await download.value).suggested_filename == "events.ndjson"


async def test_counts_per_name_over_time(look: Look, client: Client, orders: None) -> None:
    """The dialog shows the numbers per name, follows new events, and leads to the events of a name."""
    page = await look.open(f"#events?workspace={WORKSPACE}")
    await page.keyboard.press("n")
    rows = page.locator("#counts-list tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first.locator("td").first).to_have_text("2")
    await client.track("eve", "order")
    await expect(rows.first.locator("td").first).to_have_text("3")
    await page.locator("#counts-seconds").select_option("300")
    await rows.nth(1).get_by_role("button", name="visit").click()
    await expect(page.locator("#filter")).to_have_value("event_uid=visit")
    await expect(look.rows()).to_have_count(1)


async def test_workspaces_are_named(look: Look, client: Client) -> None:
    """The menu and the lists of all workspaces show recognisable names."""
    await client.post("/v1/ping", headers={"User-Agent": "shop/1.0"})
    await client.of("abcdefgh12").post("/v1/ping")
    page = await look.open(f"#requests?workspace={WORKSPACE}")
    option = page.locator(f"#workspace option[value='{WORKSPACE}']")
    await expect(option).to_contain_text("qw…23 (22) · 0 events")
    await expect(option).to_contain_text("by shop/1.0")
    await page.locator("#workspace").select_option("all")
    await expect(page.locator("#columns th").nth(1)).to_have_text("Workspace")
    await expect(look.rows("ab…12 (10)")).to_have_count(1)
    await expect(look.rows("qw…23 (22)")).to_have_count(1)
    await page.locator("#workspace").select_option(WORKSPACE)
    await expect(page.locator("#columns th").nth(1)).to_have_text("Status")


async def test_the_welcome_ends_with_a_rejected_request(look: Look, client: Client) -> None:
    """A first request that is rejected ends the welcome text, and is counted under Rejected, also for its type."""
    page = await look.open()
    await expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_visible()
    assert (await client.send("/v1/contact", "{}", "text/plain")).status == 406
    await expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_hidden()
    await look.figure("requests", "1")
    await look.figure("rejected", "1")
    await page.keyboard.press("5")
    await expect(look.rows("406")).to_have_count(1)


async def test_a_request_without_credentials_ends_the_welcome(look: Look, client: Client) -> None:
    """A first request that belongs to no workspace ends the welcome text, too."""
    page = await look.open()
    await expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_visible()
    assert (await client.of(None).post("/v1/contact", {"contact_uid": "1"})).status == 401
    await expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_hidden()


async def test_verdicts_of_a_plan(browser: Browser) -> None:
    """With a plan the page counts bad messages, marks them in the table, and shows the reasons."""
    async with Sandbox(plan=PLAN) as sandbox:
        context = await new_context(browser)
        look = Look(await context.new_page(), sandbox)
        sandbox.replay(
            [
                json.dumps({"method": "event", "contact_uid": "1", "event_uid": "order", "params": {"amount": amount}})
                for amount in (1, "one")
            ],
            TOKEN,
        )
        page = await look.open(f"#events?workspace={WORKSPACE}")
        await look.figure("bad", "1")
        await expect(look.rows("bad")).to_have_count(1)
        await expect(look.rows("good")).to_have_count(1)
        await page.locator("#filter").fill("plan=bad")
        await expect(look.rows()).to_have_count(1)
        await look.rows().first.click()
        await expect(page.locator("#details .problems")).to_have_text("params.amount 'one' is not of type 'number'")
        assert (await look.violations(), look.complaints) == ([], [])
        await context.close()
