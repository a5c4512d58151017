"""Requests of all published clients."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import TOKEN, Client

EVENT = {"contact_uid": "1", "event_uid": "x", "params": {"account_uid": "9"}}

# The documented calls, in order.
CALLS = Path(__file__).with_name("documented_calls.sh")


async def run(*command: str, stdin: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate(stdin.encode())
    assert process.returncode == 0, error.decode()
    return out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_as_documented(sandbox: Sandbox) -> None:
    """The documented calls, run by a shell, are accepted and produce the expected state."""
    script = CALLS.read_text().replace("https://api.salesmachine.io", sandbox.url).replace("curl ", "curl -sS ")
    output = await run("sh", "-e", "-c", script)
    assert output == '{"status":"success"}' * 7
    contact = sandbox.contact("789")
    assert contact["params"]["email"] == "elon@teslamotors.com"
    assert [each["event_uid"] for each in contact["events"]] == [
        "user_registration",
        "pageview",
        "user_registration",
        "payment",
    ]
    assert sandbox.account("78910")["params"]["display_name"] == "Acme"
    assert sandbox.summary()["requests"] == {"200": 6, "201": 1}


def old_python() -> str | None:
    """Return a Python interpreter with salesmachine-python: from the environment variable, or this one."""
    named = os.environ.get("SALESMACHINE_OLD_CLIENT_PYTHON")
    if named:
        return named
    return sys.executable if importlib.util.find_spec("salesmachine") is not None else None


@pytest.mark.skipif(old_python() is None, reason="salesmachine-python is not installed")
async def test_the_published_python_client(sandbox: Sandbox) -> None:
    """salesmachine-python from PyPI delivers all kinds of messages."""
    program = f"""
        import json
        from salesmachine.client import Client
        url = {sandbox.url + "/v1/batch"!r}
        client = Client({TOKEN!r}, "secret", url=url, on_error=lambda error, batch: print(error))
        client.set_contact("123456", {{"email": "elon@teslamotors.com", "mrr": 99, "account_uid": "78910"}})
        client.set_account("78910", {{"name": "Tesla Motors"}})
        client.track_event("123456", "user_registration", {{"account_uid": "78910"}})
        client.track_pageview("123456", {{"visit_url": "/home"}})
        for n in range(250):
            client.track_event("123456", "count", {{"n": n}})
        client.flush()
    """
    output = await run(str(old_python()), "-W", "ignore", "-c", textwrap.dedent(program))
    assert output == ""
    assert sandbox.contact("123456")["params"]["mrr"] == 99
    assert sandbox.account("78910")["contacts"] == ["123456"]
    names = [each["event_uid"] for each in sandbox.events(TOKEN)]
    assert names == ["user_registration", "pageview"] + ["count"] * 250
    assert sandbox.summary()["rejected"] == 0


def node(path: str, data: Any = None, method: str = "post") -> str:
    """Return the URL of salesmachine-node."""
    query = f"api_token={TOKEN}&encode=base64&_method={method}"
    if data is not None:
        query += f"&data={quote(base64.b64encode(json.dumps(data).encode()).decode(), safe='')}"
    return f"/v1/{path}?{query}"


async def test_node_client(client: Client, sandbox: Sandbox) -> None:
    """salesmachine-node sends everything by GET, with the body in the query."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    for path in (
        node("ping", method="get"),
        node("contact", {"contact_uid": "1", "params": {"name": "Zoë?>~"}}),
        node("account", {"account_uid": "9", "params": {"name": "Tesla"}}),
        node("track/event", EVENT),
    ):
        answer = await client.of(None).call("GET", path, headers=headers)
        assert (answer.status, answer.body) == (200, {"status": "success"})
    assert sandbox.contact("1", TOKEN)["params"] == {"name": "Zoë?>~"}
    assert len(sandbox.events()) == 1
    assert [each["path"] for each in sandbox.requests()] == [
        "/v1/ping",
        "/v1/contact",
        "/v1/account",
        "/v1/track/event",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/contact?api_token=x", 405),
        ("/v1/contact?api_token=x&encode=base64&data=!", 400),
        ("/v1/contact?api_token=x&encode=base64&data=%22x", 400),
        ("/v1/contact?api_token=x&data=%7B", 400),
        ("/v1/contact?_method=post", 401),
        ("/v1/nothing?_method=post", 404),
        ("/v1/user?api_token=x", 405),
    ],
)
async def test_other_gets_are_refused(client: Client, path: str, status: int) -> None:
    """Only the requests of the Node client are accepted by GET."""
    assert (await client.of(None).call("GET", path)).status == status


def php(data: Any) -> aiohttp.FormData:
    """Return the multipart form of the PHP library of 2014."""
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in (("api_token", TOKEN), ("encode", "none"), ("data", json.dumps(data))):
        form.add_field(name, value)
    return form


def ruby(data: Any) -> dict[str, str]:
    """Return the form of the Ruby library of 2014: base64 with line breaks in a JSON string."""
    encoded = base64.encodebytes(json.dumps(data).encode()).decode()
    return {"api_token": TOKEN, "encode": "base64", "data": json.dumps(encoded)}


@pytest.mark.parametrize("form", [php, ruby])
async def test_forms_of_2014(client: Client, sandbox: Sandbox, form: Any) -> None:
    """The old paths and names create contacts, accounts and events."""
    calls: list[tuple[str, Any]] = [
        ("ping", {}),
        ("contact", {"contact_uid": "1", "params": {"name": "x" * 200}, "created_at": 1398000000}),
        ("user", {"unique_id": "2", "params": {"account_id": "9"}}),
        ("customer", {"unique_id": "3"}),
        ("element", {"unique_id": "8", "params": {"dataset": "companies"}}),
        ("product", {"unique_id": "7", "params": {}}),
        ("track/event", {"unique_id": "1", "event": "old", "params": {}}),
        ("pageview", {"unique_id": "1", "params": {"location": "/"}}),
        ("track/pageview", {"contact_uid": "1"}),
        ("email", {"email_uid": "1", "email_name": "Hello", "params": {"type": "Newsletter"}}),
    ]
    for path, data in calls:
        answer = await client.call("POST", f"/v1/{path}", data=form(data))
        assert (answer.status, answer.body) == (200, {"status": "success"}), path
    assert [each["contact_uid"] for each in sandbox.contacts()] == ["1", "2", "3"]
    assert sandbox.contact("2")["accounts"] == ["9"]
    assert sandbox.contact("1")["created_at"] == "2014-04-20T13:20:00.000Z"
    assert [each["account_uid"] for each in sandbox.accounts()] == ["7", "8", "9"]
    assert [each["event_uid"] for each in sandbox.events()] == ["old", "pageview", "pageview", "email"]
    assert sandbox.events()[-1]["params"] == {"type": "Newsletter", "title": "Hello"}


async def test_what_is_no_old_form(client: Client, session: Any) -> None:
    """Old paths accept only forms; a form without data, with a file, or malformed is rejected."""
    assert (await client.post("/v1/user", {"unique_id": "1"})).status == 404
    assert (await client.call("POST", "/v1/contact", data={"x": "y"})).status == 406
    form = aiohttp.FormData()
    form.add_field("data", b"{}", filename="x.json")
    answer = await client.call("POST", "/v1/contact", data=form)
    assert (answer.status, answer.body) == (400, {"error": "data must be text, not a file"})
    assert (await client.send("/v1/contact", "x", "multipart/form-data; boundary=y")).status == 400
    assert (await client.send("/v1/contact", "x", "multipart/form-data")).status == 400
    async with Sandbox(max_body_bytes=100) as sandbox:
        small = Client(session, sandbox.url)
        assert (await small.call("POST", "/v1/contact", data={"data": "x" * 200})).status == 413


async def test_ruby_batches(client: Client, sandbox: Sandbox) -> None:
    """salesmachine-ruby 1.0 sends `event` for `event_uid`, the method email, and used /v1/bulk."""
    batch = [
        {"method": "event", "contact_uid": "1", "event": "testing the timestamp", "params": {}, "messageId": "a"},
        {"method": "email", "contact_uid": "1", "email": "My Email title", "params": {"type": "Newsletter email"}},
        {"method": "email", "contact_uid": "1", "email": "Bare"},
    ]
    for path in ("/v1/batch", "/v1/bulk"):
        assert (await client.post(path, batch)).status == 201
    assert [each["event_uid"] for each in sandbox.events()] == [
        "testing the timestamp",
        "email",
        "email",
        "email",
        "email",
    ]
    assert sandbox.events()[1]["params"] == {"type": "Newsletter email", "title": "My Email title"}
    answer = await client.post("/v1/batch", [{"method": "email", "contact_uid": "1", "params": []}])
    assert answer.body == {"error": "items[0].params must be an object"}
