"""Copied texts reproduce what is shown; bash and Python run them."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import sys
from typing import Any

import pytest
from playwright.async_api import expect

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import TOKEN, Client

from .conftest import WORKSPACE, Look
from .hostile import TEXTS, params

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.one_python]

COPY = "copy"


async def run(*command: str) -> None:
    environment = {**os.environ, "SALESMACHINE_API_TOKEN": COPY}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"error" not in output, output.decode()


def calls(program: str) -> list[tuple[str, list[Any]]]:
    """Return the agent calls in *program* with the values of their arguments."""
    compile(program, "copied", "exec")
    return [
        (node.func.attr, [ast.literal_eval(each) for each in node.args])
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "agent"
    ]


def parts(event: dict[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in ("contact_uid", "event_uid", "params", "created_at")}


def same(one: Any, other: Any) -> bool:
    """Compare values and types: 1 is not 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


async def test_an_event_of_hostile_texts(look: Look, client: Client) -> None:
    """An event copied as JSON, as a curl command or as a Python program is always the same event."""
    sandbox: Sandbox = look.sandbox
    everything = {str(n): params(text) for n, text in enumerate(TEXTS)}
    uid = "".join(text[:100] for text in TEXTS)
    await client.track(uid, uid[::-1], **everything)
    (sent,) = sandbox.events(TOKEN)
    await look.open()
    await look.rows().click()
    assert same(json.loads(await look.copied("JSON")), sent)
    await run("bash", "-c", await look.copied("curl"))
    program = await look.copied("Python")
    assert program.isprintable() is False  # lines
    assert all(line.isprintable() for line in program.replace("\u200d", "").replace("\ufdfd", "").split("\n"))
    ((name, arguments),) = calls(program)
    assert name == "track"
    assert same(arguments, [uid, uid[::-1], everything])
    await run(sys.executable, "-c", program)
    again = sandbox.events(COPY)
    assert len(again) == 2
    for each in again:
        assert same(parts(dict(each)), parts(dict(sent)))


async def test_contacts_accounts_and_pageviews(look: Look, client: Client) -> None:
    """A merged record is copied as the one call that would create it."""
    sandbox: Sandbox = look.sandbox
    await client.contact("ann", email="ann@example.com", n=12345678901234567890)
    await client.contact("ann", account_uid="acme")
    await client.account("acme", name='It\'s "Acme"')
    await client.track("ann", "pageview", visit_url="https://example.com/?a=1&b='2'")
    page = await look.open()
    for open_, name in (("contacts?open=contact:ann", "contact"), ("accounts?open=account:acme", "account")):
        await page.goto(f"{sandbox.url}/#{open_}&workspace={WORKSPACE}")
        await expect(page.locator("#details h2")).to_have_text(name.capitalize())
        await expect(page.locator("#details .tree")).to_have_count(1)
        await run("bash", "-c", await look.copied("curl"))
        assert [each for each, _ in calls(await look.copied("Python"))] == [name]
    assert sandbox.contact("ann", COPY)["params"] == sandbox.contact("ann", TOKEN)["params"]
    assert sandbox.account("acme", COPY)["params"] == sandbox.account("acme", TOKEN)["params"]
    await page.goto(f"{sandbox.url}/#events?workspace={WORKSPACE}")
    await look.rows("pageview").click()
    assert [each for each, _ in calls(await look.copied("Python"))] == ["pageview"]


async def test_a_whole_request(look: Look, client: Client) -> None:
    """A request is copied as one batch, or as single calls."""
    sandbox: Sandbox = look.sandbox
    batch: list[dict[str, Any]] = [
        {"method": "contact", "contact_uid": "ann", "params": {"a": 1}},
        {"method": "account", "account_uid": "acme", "params": {"b": [1, 2]}},
        {"method": "event", "contact_uid": "ann", "event_uid": "order", "params": {"long": "word " * 40}},
        {"method": "event", "contact_uid": "ann", "event_uid": "pageview"},
    ]
    await client.post("/v1/batch", batch)
    await client.alias("ann", "ann-2")
    page = await look.open("#requests")
    await look.rows("/v1/batch").click()
    await expect(page.locator("#details .timeline li")).to_have_count(4)
    await run("bash", "-c", await look.copied("curl"))
    program = await look.copied("Python")
    assert [name for name, _ in calls(program)] == ["contact", "account", "track", "pageview"]
    await run(sys.executable, "-c", program)
    assert [each["event_uid"] for each in sandbox.events(COPY)] == ["order", "pageview"] * 2
    assert sandbox.account("acme", COPY)["params"] == {"b": [1, 2]}
    await look.rows("/v1/alias").click()
    await expect(page.locator("#details .name")).to_contain_text("/v1/alias")
    assert calls(await look.copied("Python")) == [("alias", ["ann", "ann-2"])]
    await run("bash", "-c", await look.copied("curl"))
    assert sandbox.contact("ann-2", COPY)["contact_uid"] == "ann"


async def test_what_was_refused(look: Look, client: Client) -> None:
    """An invalid item can be copied as JSON; a request without messages cannot be copied as calls."""
    await client.post("/v1/batch", [{"method": "event", "contact_uid": "it's me", "params": 1}])
    await client.post("/v1/ping")
    page = await look.open("#rejected")
    await look.rows().click()
    assert '-d \'[{"method":"event","contact_uid":"it\'\\\'\'s me","params":1}]\'' in await look.copied("curl")
    await expect(page.locator("[data-copy=Python]")).to_be_disabled()
    await page.keyboard.press("4")
    await look.rows("/v1/ping").click()
    await expect(page.locator("#details .name")).to_contain_text("/v1/ping")
    for name in ("curl", "Python"):
        await expect(page.locator(f"[data-copy={name}]")).to_be_disabled()


async def test_copying_without_the_clipboard(look: Look, client: Client) -> None:
    """Without the clipboard API (plain HTTP on another machine) the fallback works."""
    await client.track("1", "x")
    page = await look.open()
    await look.rows().click()
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })")
    await page.locator("[data-copy=JSON]").click()
    await expect(page.locator("#toast")).to_have_text("Copied: JSON")
    await page.evaluate("delete navigator.clipboard")
    assert json.loads(await page.evaluate("navigator.clipboard.readText()"))["event_uid"] == "x"
