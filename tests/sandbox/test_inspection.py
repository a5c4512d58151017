"""Inspection: order, single requests and records, changes of a record."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from salesmachine_async.sandbox import Sandbox, views
from salesmachine_async.sandbox.storage.request_log import MAX_HEAD
from tests.sandbox.conftest import TOKEN, Client, basic


@pytest.mark.parametrize(("what", "key"), [("contacts", "contact_uid"), ("accounts", "account_uid")])
async def test_records_newest_first(client: Client, what: str, key: str) -> None:
    """Newest first is the reverse order of creation; the cursor is the last uid; filters combine with it."""
    for uid in ("b", "c", "a", "b"):
        await (client.contact(uid, x=uid) if what == "contacts" else client.account(uid, x=uid))
    await (client.of("other").contact("z") if what == "contacts" else client.of("other").account("z"))
    page = await client.get(what, order="desc", limit="2")
    assert ([each[key] for each in page[what]], page["next"]) == (["a", "c"], "c")
    page = await client.get(what, order="desc", limit="2", after="c")
    assert ([each[key] for each in page[what]], page["next"]) == (["b"], None)
    assert [each[key] for each in (await client.get(what, order="desc", q="B"))[what]] == ["b"]
    assert (await client.get(what, order="desc", after="unknown"))[what] == []


@pytest.mark.parametrize("uid", [".", "..", "a\nb", "a\0b", "a/b", "?#%", "\U0001f4a5" * 10_000])
async def test_any_record_can_be_read_by_the_query(client: Client, sandbox: Sandbox, uid: str) -> None:
    """A record is found by `?uid=`, also with a uid that clients normalise in a path."""
    await client.contact(uid, account_uid=uid)
    await client.track(uid, "x")
    (contact,) = (await client.get("contacts", uid=uid))["contacts"]
    assert contact == {key: value for key, value in sandbox.contact(uid).items() if key != "events"}
    assert (await client.get("accounts", uid=uid))["accounts"] == sandbox.accounts()
    for what in ("contacts", "accounts"):
        assert await client.get(what, uid="unknown") == {what: [], "next": None}


async def test_one_request(client: Client, sandbox: Sandbox) -> None:
    """The details of a request contain its headers and its applied messages."""
    await client.track("0", "before")
    item = {"method": "event", "contact_uid": "1", "event_uid": "x", "messageId": "m"}
    batch = [item, {"method": "contact", "contact_uid": "1", "params": {"a": 1}}, item]
    await client.post("/v1/batch", batch, headers={"X-Own": "é"})
    await client.track("2", "after")
    detail = await client.get("requests/2")
    assert list(detail) == list(get_type_hints(views.RequestDetailView))
    assert {key: detail[key] for key in sandbox.requests()[1]} == sandbox.requests()[1]
    assert [(each["method"], each["contact_uid"]) for each in detail["messages"]] == [("event", "1"), ("contact", "1")]
    assert (detail["index"], detail["excerpt"]) == (None, None)
    headers = {name.lower(): value for name, value in detail["headers"]}
    assert headers["content-type"] == "application/json"
    assert headers["x-own"] == "é"
    for number, asked_by in (("4", client), ("2", client.of("other"))):
        answer = await asked_by.call("GET", f"/_sandbox/requests/{number}")
        assert (answer.status, answer.body) == (404, {"error": "no such request in the log"})


async def test_one_refused_request(client: Client) -> None:
    """The details of a rejected request contain the invalid item and no messages."""
    await client.post("/v1/batch", [{"method": "contact", "contact_uid": "1"}, {"method": "no"}])
    detail = await client.get("requests/1")
    assert (detail["status"], detail["index"], detail["excerpt"]) == (400, 1, '{"method":"no"}')
    assert detail["messages"] == []


async def test_headers_are_kept_without_credentials(client: Client) -> None:
    """Headers in the log are truncated and converted to valid JSON."""
    secret = {**basic("TOKEN-1", "SECRET-1"), "Cookie": "SECRET-2", "Referer": "http://x/?api_token=SECRET-3"}
    await client.of(None).post("/v1/ping", headers=secret)
    await client.post("/v1/ping", headers={"X-Long": "x" * 5000})
    detail = await client.of("TOKEN-1").get("requests/1")
    headers = {name.lower(): value for name, value in detail["headers"]}
    assert headers["authorization"] == headers["cookie"] == headers["referer"] == "(not kept)"
    assert "TOKEN-1" not in str(detail)
    assert "SECRET" not in str(detail)
    detail = await client.get("requests/2")
    assert sum(map(len, map("".join, detail["headers"]))) < MAX_HEAD


async def test_messages_of_a_request_that_the_feed_forgot(session: Any) -> None:
    """Evicted messages are omitted, and no message of another request replaces them."""
    async with Sandbox(max_history=1) as sandbox:
        client = Client(session, sandbox.url)
        await client.track("1", "old")
        await client.track("1", "new")
        assert (await client.get("requests/1"))["messages"] == []
        assert [each["event_uid"] for each in (await client.get("requests/2"))["messages"]] == ["new"]
        sandbox.reset(TOKEN)
        assert (await client.call("GET", "/_sandbox/requests/2")).status == 404


async def test_requests_are_filtered(client: Client) -> None:
    """Requests are searched by method, path, status and error, rejected ones also by their content."""
    await client.track("1", "x")
    await client.post("/v1/contact", {"contact_uid": "NEEDLE", "params": 1})
    for text, ids in (("post", [1, 2]), ("/TRACK", [1]), ("400", [2]), ("must be an object", [2]), ("nothing", [])):
        assert [each["id"] for each in (await client.get("requests", q=text))["requests"]] == ids
    for text, ids in (("needle", [2]), ("nothing", []), ("", [2])):
        assert [each["id"] for each in (await client.get("rejected", q=text))["rejected"]] == ids
    page = await client.get("requests", q="post", order="desc", limit="1")
    assert ([each["id"] for each in page["requests"]], page["next"]) == ([2], 2)


async def test_changes(client: Client) -> None:
    """The changes of a contact (under any uid) or of an account are listed latest first, without events."""
    await client.contact("1", a=1)
    await client.contact("2", account_uid="acme")
    await client.account("acme", name="Acme")
    await client.contact("3")
    await client.track("1", "x", account_uid="acme")
    await client.of("other").contact("1")
    await client.alias("1", "2")
    for uid in ("1", "2"):
        changes = (await client.get("changes", contact_uid=uid))["changes"]
        assert [(each["method"], each["contact_uid"]) for each in changes] == [
            ("alias", "1"),
            ("contact", "2"),
            ("contact", "1"),
        ]
    changes = (await client.get("changes", account_uid="acme"))["changes"]
    assert [each["method"] for each in changes] == ["account", "contact"]
    assert len((await client.get("changes", contact_uid="1", limit="1"))["changes"]) == 1
    assert await client.get("changes") == {"changes": []}
    assert await client.of("nobody").get("changes", contact_uid="1") == {"changes": []}


async def test_events_are_counted_by_name_and_time(client: Client, sandbox: Sandbox) -> None:
    """The counts cover the latest interval, the most frequent name first; older events and other kinds do not count."""
    await client.contact("1")
    for name in ("a", "b", "b"):
        await client.track("1", name)
    found = await client.get("counts", seconds="3600")
    assert [(each["event_uid"], each["total"], each["counts"][-1]) for each in found["events"]] == [
        ("b", 2, 2),
        ("a", 1, 1),
    ]
    assert (found["interval"], len(found["events"][0]["counts"])) == (60.0, 60)
    sandbox._running().store.run("UPDATE event SET received_at = received_at - 1000000 WHERE event_uid = ?", ("b",))
    found = await client.get("counts", seconds="600")
    assert [each["event_uid"] for each in found["events"]] == ["a"]
    assert (await client.call("GET", "/_sandbox/counts?seconds=1")).status == 400
