"""A page of another site in a real Chromium cannot change anything in the sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import BrowserContext

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import TOKEN

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


# Every element and function that sends a request to another site without permission.
HOSTILE_PAGE = """<!doctype html>
<img src="WRITE=img">
<img referrerpolicy="no-referrer" src="WRITE=no-referrer">
<script src="WRITE=script"></script>
<link rel="stylesheet" href="WRITE=stylesheet">
<iframe src="WRITE=iframe"></iframe>
<video src="WRITE=video"></video>
<object data="WRITE=object"></object>
<form id="form" method="post" action="URL/v1/contact?api_token=TOKEN" target="frame">
  <input name="data" value='{"contact_uid":"form"}'>
</form>
<form id="plain" method="post" enctype="text/plain" action="URL/_sandbox/reset?api_token=TOKEN" target="frame"></form>
<iframe name="frame"></iframe>
<script>
  const contact = "URL/v1/contact?api_token=TOKEN";
  const json = { "Content-Type": "application/json" };
  const calls = [
    fetch("WRITE=fetch", { mode: "no-cors" }),
    fetch(contact, { mode: "no-cors", method: "POST", body: '{"contact_uid":"post"}' }),
    fetch(contact, { method: "POST", body: '{"contact_uid":"cors"}', headers: json }),
    fetch("URL/_sandbox/faults", { method: "PUT", body: '[{"status":500}]', headers: json }),
    fetch("URL/_sandbox/reset?api_token=TOKEN", { mode: "no-cors", method: "POST" }),
  ];
  navigator.sendBeacon(contact, '{"contact_uid":"beacon"}');
  document.getElementById("form").submit();
  document.getElementById("plain").submit();
  Promise.allSettled(calls).then(() => { document.title = "done"; });
</script>"""


def write(uid: str) -> str:
    """Return the URL of a write by GET."""
    data = quote(json.dumps({"contact_uid": uid}))
    return f"/v1/contact?api_token={TOKEN}&_method=post&data={data}"


def hostile_page(url: str) -> str:
    page = re.sub("WRITE=([a-z-]+)", lambda found: url + write(found[1]), HOSTILE_PAGE)
    return page.replace("URL", url).replace("TOKEN", TOKEN)


@pytest_asyncio.fixture(loop_scope="module")
async def hostile(sandbox: Sandbox) -> AsyncIterator[str]:
    """The port of a server of another site whose page attacks the sandbox."""
    application = web.Application()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=hostile_page(sandbox.url), content_type="text/html")

    application.router.add_get("/", page)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield str(runner.addresses[0][1])
    await runner.cleanup()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_page_of_another_site_changes_nothing(
    context: BrowserContext, sandbox: Sandbox, hostile: str, host: str
) -> None:
    """Neither a cross-site page (localhost) nor a same-site one (another port) creates or deletes anything."""
    page = await context.new_page()
    await page.goto(f"http://{host}:{hostile}/")
    await page.wait_for_function("document.title === 'done'")
    await page.wait_for_load_state("networkidle")
    await page.goto(f"{sandbox.url}/")
    assert sandbox.summary()["workspaces"] == 0
    assert sandbox.faults_left() == []
    requests = sandbox.requests()
    assert {line["status"] for line in requests} == {403}
    assert len(requests) >= 10
    await page.close()


async def test_a_link_of_another_site_changes_nothing(context: BrowserContext, sandbox: Sandbox, hostile: str) -> None:
    """A navigation that the user starts on another site changes nothing; a typed address is the user's own request."""
    page = await context.new_page()
    await page.goto(f"http://localhost:{hostile}/")
    await page.wait_for_function("document.title === 'done'")
    await page.evaluate("url => { location.href = url; }", f"{sandbox.url}{write('link')}")
    await page.wait_for_url(f"{sandbox.url}/**")
    assert "another site" in await page.inner_text("body")
    assert sandbox.summary()["contacts"] == 0
    await page.goto(f"{sandbox.url}{write('typed')}")
    assert [each["contact_uid"] for each in sandbox.contacts()] == ["typed"]
    await page.close()
