"""What identifies workspaces and requests for people: labels, hints of tokens, lines of the access log."""

from __future__ import annotations

from typing import Any

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.sandbox.access_log import access_line
from salesmachine_async.sandbox.views import RequestView
from tests.sandbox.conftest import Client


async def test_workspaces_are_recognisable(session: Any) -> None:
    """A workspace shows its label, the ends and the length of its token, and its last use; never the token."""
    async with Sandbox(names={"abcdefgh12": "checkout tests"}, v2_tokens={"secret-v2-token": "abcdefgh12"}) as sandbox:
        client = Client(session, sandbox.url)
        agent = {"User-Agent": "salesmachine-async/0.1.0 (linux)"}
        await client.of("abcdefgh12").post("/v1/ping", headers=agent)
        await client.of("short").post("/v1/ping", headers={"User-Agent": "curl/8"})
        assert (await client.of("secret-v2-token").call("GET", "/v2/contacts")).status == 200
        listed = (await client.of(None).get("workspaces"))["workspaces"]
        shown = [[each[name] for name in ("label", "token", "token_length", "used_by")] for each in listed]
        assert shown == [
            ["checkout tests", "ab…12", 10, "salesmachine-async/0.1.0"],
            # Four characters would reveal a short token.
            [None, "", 5, "curl/8"],
        ]
        assert all(each["used_at"].endswith("Z") for each in listed)


async def test_a_workspace_that_was_not_used_since_the_start(session: Any, tmp_path: Any) -> None:
    """After a restart with a database file the token is unknown; the label is not."""
    file = tmp_path / "state.db"
    async with Sandbox(db=file) as sandbox:
        await Client(session, sandbox.url, "abcdefgh12").post("/v1/ping")
    async with Sandbox(db=file, names={"abcdefgh12": "mine"}) as sandbox:
        (found,) = (await Client(session, sandbox.url, None).get("workspaces"))["workspaces"]
        assert (found["label"], found["token"], found["used_at"]) == ("mine", None, None)


async def test_each_request_is_reported(session: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The callback gets each request to the API with its outcome; an exception in it harms nothing."""
    seen: list[str] = []

    def on_request(request: RequestView) -> None:
        seen.append(access_line(request)[9:])
        if len(seen) == 1:
            raise RuntimeError("broken")

    async with Sandbox(on_request=on_request) as sandbox:
        client = Client(session, sandbox.url)
        batch = [{"method": "event", "contact_uid": "1", "event_uid": "x", "messageId": "1"}]
        assert (await client.post("/v1/ping")).status == 200
        await client.post("/v1/batch", [*batch, *batch])
        await client.post("/v1/contact", {})
        await client.of(None).call("GET", "/v1/%1b%5B31mred%0Aline")
        sandbox.faults([Fault(drop="before")])
        with pytest.raises(OSError, match=r"."):
            await client.post("/v1/ping")
        await client.get("summary")
    assert seen == [
        "POST /v1/ping 200 0 messages",
        "POST /v1/batch 201 2 messages (1 known already)",
        "POST /v1/contact 400 1 message: contact_uid is missing",
        "GET /v1/?[31mred?line 404 0 messages: no such path",
        "POST /v1/ping dropped 0 messages",
    ]
    assert [record.message for record in caplog.records] == ["on_request raised an exception"]


async def test_a_sandbox_in_a_container(session: Any) -> None:
    """A sandbox on all interfaces serves the name that is allowed, and rejects other names."""
    async with Sandbox(host="0.0.0.0", allowed_hosts=["sandbox"]) as sandbox:
        client = Client(session, sandbox.url)
        assert (await client.post("/v1/ping", headers={"Host": "sandbox:8700"})).status == 200
        assert (await client.post("/v1/ping", headers={"Host": "other:8700"})).status == 403
