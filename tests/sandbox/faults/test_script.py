"""Scripted faults."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.sandbox.conftest import TOKEN, Client

EVENT = {"contact_uid": "1", "event_uid": "x"}


async def statuses(client: Client, count: int, path: str = "/v1/track/event") -> list[int]:
    return [(await client.post(path, EVENT)).status for _ in range(count)]


async def test_script_runs_in_order(client: Client, sandbox: Sandbox) -> None:
    """Faults apply in order, each its number of times, and apply no message."""
    sandbox.faults([Fault(status=503, times=2), Fault(status=429, retry_after=2.0), Fault(), Fault(status=500)])
    assert await statuses(client, 6) == [503, 503, 429, 200, 500, 200]
    assert sandbox.summary()["accepted"] == 2
    assert sandbox.faults_left() == []
    log = sandbox.requests()
    assert [each["fault"] for each in log] == [
        {"times": 1, "status": 503},
        {"times": 1, "status": 503},
        {"times": 1, "status": 429, "retry_after": 2.0},
        {"times": 1},
        {"times": 1, "status": 500},
        None,
    ]
    assert [each["items"] for each in log] == [1] * 6
    assert [each["accepted"] for each in log] == [0, 0, 0, 1, 0, 1]
    assert log[0]["bytes"] == log[5]["bytes"] > 0


async def test_faulty_answer(client: Client, sandbox: Sandbox) -> None:
    """A scripted error is JSON like any other error."""
    sandbox.faults([Fault(status=503), Fault(status=430)])
    answer = await client.post("/v1/ping")
    assert answer.body == {"error": "Service Unavailable (scripted fault)"}
    assert (await client.post("/v1/ping")).body == {"error": "error (scripted fault)"}


@pytest.mark.parametrize(
    ("retry_after", "sent"),
    [
        (2.0, "2"),
        (0.5, "0.5"),
        (10**9, "1000000000"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("soon", "soon"),
        ("-1", "-1"),
    ],
)
async def test_retry_after_is_sent_as_it_is(client: Client, sandbox: Sandbox, retry_after: Any, sent: str) -> None:
    """Retry-After accepts seconds and any text."""
    sandbox.faults([Fault(status=429, retry_after=retry_after)])
    assert (await client.post("/v1/ping")).headers["Retry-After"] == sent


async def test_faults_spare_the_control_endpoints(client: Client, sandbox: Sandbox) -> None:
    """By default faults apply to all API paths, also unknown ones, and to nothing else."""
    sandbox.faults([Fault(status=503, times=None)])
    assert (await client.post("/v1/ping")).status == 503
    assert (await client.post("/v1/nothing")).status == 503
    assert (await client.post("/other")).status == 404
    assert (await client.call("GET", "/_sandbox/health")).status == 200
    assert sandbox.faults_left() == [Fault(status=503, times=None)]


async def test_fault_of_one_path(client: Client, sandbox: Sandbox) -> None:
    """A fault with a path does not block the faults after it."""
    sandbox.faults([Fault(status=503, path="/v1/batch"), Fault(status=500, path="/v1/ping"), Fault(status=502)])
    assert await statuses(client, 2) == [502, 200]
    assert (await client.post("/v1/ping")).status == 500
    assert sandbox.faults_left() == [Fault(status=503, path="/v1/batch")]
    sandbox.faults([Fault(status=503, path="/other")])
    assert (await client.post("/other")).status == 503


async def test_faults_of_one_workspace(client: Client, sandbox: Sandbox) -> None:
    """Faults of a token come first and affect no other token."""
    sandbox.faults([Fault(status=503)])
    sandbox.faults([Fault(status=500)], TOKEN)
    other = client.of("other")
    assert await statuses(other, 2) == [503, 200]
    assert await statuses(client, 2) == [500, 200]


async def test_drop_before_applies_nothing(client: Client, sandbox: Sandbox) -> None:
    """The connection is reset and nothing is applied."""
    sandbox.faults([Fault(drop="before")])
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await client.post("/v1/track/event", EVENT)
    assert isinstance(caught.value, ConnectionResetError | aiohttp.ClientOSError)
    assert sandbox.summary()["accepted"] == 0
    (line,) = sandbox.requests()
    assert (line["status"], line["items"], line["fault"]) == (None, 1, {"times": 1, "drop": "before"})


async def test_drop_after_commits_then_resets(client: Client, sandbox: Sandbox) -> None:
    """The batch is applied without a response; the retry consists of duplicates."""
    batch = [{"method": "event", **EVENT, "messageId": str(n)} for n in range(3)]
    sandbox.faults([Fault(drop="after")])
    with pytest.raises(aiohttp.ClientOSError, match="reset"):
        await client.post("/v1/batch", batch)
    assert sandbox.summary()["accepted"] == 3
    assert (await client.post("/v1/batch", batch)).status == 201
    summary = sandbox.summary()
    assert (summary["events"], summary["duplicates"], summary["batches"]) == (3, 3, 2)
    assert summary["requests"] == {"201": 1, "dropped": 1}
    first, second = sandbox.requests()
    assert (first["status"], first["accepted"], second["duplicates"]) == (None, 3, 3)


async def test_drop_after_a_bad_request(client: Client, sandbox: Sandbox) -> None:
    """A rejected request is dropped as well, and the log has the reason."""
    sandbox.faults([Fault(drop="after")])
    with pytest.raises(aiohttp.ClientOSError):
        await client.post("/v1/batch", [{}])
    assert sandbox.requests()[0]["error"] == "items[0].method is missing"


async def test_drop_during_the_answer(client: Client, sandbox: Sandbox) -> None:
    """The response ends after the head and half of the body."""
    sandbox.faults([Fault(drop="during", retry_after=3, headers={"X-A": "b"}), Fault(drop="during", status=503)])
    headers = client.headers
    for status, accepted in ((200, 1), (503, 1)):
        async with client.session.post(f"{client.url}/v1/track/event", json=EVENT, headers=headers) as response:
            assert response.status == status
            assert response.headers["Content-Type"] == "application/json"
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert sandbox.summary()["accepted"] == accepted
    assert [line["status"] for line in sandbox.requests()] == [200, 503]


async def test_commit_applies_and_answers_an_error(client: Client, sandbox: Sandbox) -> None:
    """A gateway timeout: the batch is applied and the response is 504."""
    sandbox.faults([Fault(status=504, commit=True)])
    assert await statuses(client, 1) == [504]
    assert sandbox.summary()["accepted"] == 1


async def test_raw_is_sent_instead_of_http(client: Client, sandbox: Sandbox) -> None:
    """Raw text is sent unchanged before the connection closes."""
    sandbox.faults([Fault(raw="garbage\r\n\r\n"), Fault(raw="garbage\r\n\r\n", commit=True)])
    for accepted in (0, 1):
        with pytest.raises(aiohttp.ClientResponseError, match="garbage"):
            await client.post("/v1/track/event", EVENT)
        assert sandbox.summary()["accepted"] == accepted
    assert [line["status"] for line in sandbox.requests()] == [None, None]


async def test_body_and_headers_of_a_fault(client: Client, sandbox: Sandbox) -> None:
    """A text body is sent unchanged, other values as JSON, with the extra headers."""
    sandbox.faults(
        [
            Fault(status=200, body="<html>", headers={"Content-Type": "text/html"}),
            Fault(status=400, body={"code": 7}),
            Fault(status=307, headers={"Location": "/v1/elsewhere"}),
            Fault(status=204),
        ]
    )
    async with client.session.post(f"{client.url}/v1/ping", headers=client.headers) as response:
        assert (response.status, response.content_type, await response.text()) == (200, "text/html", "<html>")
    answer = await client.post("/v1/ping")
    assert (answer.status, answer.body) == (400, {"code": 7})
    answer = await client.post("/v1/ping", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (307, "/v1/elsewhere")
    assert (await client.post("/v1/ping")).status == 204


async def test_latency_delays_the_request(client: Client, sandbox: Sandbox) -> None:
    """A latency delays its own request only."""
    sandbox.faults([Fault(latency=0.01), Fault(latency=0.01, status=503), Fault(latency=3600)])
    assert await statuses(client, 2) == [200, 503]
    slow = asyncio.create_task(client.post("/v1/ping"))
    while sandbox.faults_left():
        await asyncio.sleep(0.001)
    assert await statuses(client, 1) == [200]
    assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_large_body_under_a_fault(session: aiohttp.ClientSession) -> None:
    """Faults apply before the limits."""
    async with Sandbox(max_body_bytes=100) as sandbox:
        sandbox.faults([Fault(status=503)])
        client = Client(session, sandbox.url)
        assert (await client.send("/v1/contact", b"x" * 200)).status == 503
        assert sandbox.requests()[0]["items"] == 0


async def test_broken_body_under_a_fault(client: Client, sandbox: Sandbox) -> None:
    """A body that is not JSON counts no items."""
    sandbox.faults([Fault(status=503, times=4)])
    for body, items in ((b"{", 0), (b"7", 0), (b"[1,2]", 2), (b"{}", 1)):
        assert (await client.send("/v1/contact", body)).status == 503
        assert sandbox.requests()[-1]["items"] == items


async def test_scripts_over_http(client: Client, sandbox: Sandbox) -> None:
    """PUT replaces the faults, GET lists the remaining ones, DELETE removes all."""
    script = [{"status": 503, "times": 2, "retry_after": "soon"}, {"drop": "after", "times": None}]
    anonymous = client.of(None)
    for body in (script, {"faults": script}):
        answer = await anonymous.call("PUT", "/_sandbox/faults", json=body)
        assert (answer.status, answer.body) == (200, {"faults": script})
    assert sandbox.faults_left() == [Fault(status=503, times=2, retry_after="soon"), Fault(drop="after", times=None)]
    await client.post("/v1/ping")
    assert (await anonymous.get("faults"))["faults"][0] == {"times": 1, "status": 503, "retry_after": "soon"}
    assert await client.get("faults") == {"faults": []}
    full = {
        "times": 3,
        "path": "/v1/ping",
        "latency": 1,
        "status": 500,
        "commit": True,
        "headers": {"A": "b"},
        "body": [1],
    }
    await client.call("PUT", "/_sandbox/faults", json=[full])
    assert await client.get("faults") == {"faults": [full]}
    for each in (client, anonymous):
        answer = await each.call("DELETE", "/_sandbox/faults")
        assert (answer.status, answer.body) == (200, {"faults": []})
        assert await each.get("faults") == {"faults": []}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (None, 'the body must be an array of faults, or {"faults": [...]}'),
        ({}, 'the body must be an array of faults, or {"faults": [...]}'),
        ({"faults": {}}, 'the body must be an array of faults, or {"faults": [...]}'),
        ([7], "faults[0]: must be an object"),
        (
            [{}, {"stauts": 503}],
            "faults[1]: stauts is not a field of a fault; expected one of body, commit, drop, headers, ",
        ),
        ([{"status": 199}], "faults[0]: status must be from 200 to 599"),
        ([{"status": "503"}], "faults[0]: status must be from 200 to 599"),
        ([{"status": True}], "faults[0]: status must be from 200 to 599"),
        ([{"times": 0}], "faults[0]: times must be 1 or more, or null"),
        ([{"retry_after": -1}], "faults[0]: retry_after must be a number of seconds or a text"),
        ([{"retry_after": "a\nb"}], "faults[0]: retry_after must not contain control characters"),
        ([{"path": "v1"}], "faults[0]: path must start with /"),
        ([{"path": 1}], "faults[0]: path must start with /"),
        ([{"path": "/_sandbox/summary"}], "faults[0]: path must not be a control endpoint"),
        ([{"drop": "later"}], "faults[0]: drop must be one of before, during, after"),
        ([{"drop": []}], "faults[0]: drop must be one of before, during, after"),
        ([{"drop": "after", "status": 503}], "faults[0]: drop excludes status, because no response is sent"),
        ([{"commit": 1}], "faults[0]: commit must be true or false"),
        ([{"commit": True}], "faults[0]: commit needs a status, or raw"),
        ([{"latency": "1"}], "faults[0]: latency must be a number of seconds, 0 or more"),
        ([{"headers": 7}], "faults[0]: headers must be an object"),
        ([{"headers": ["abc"]}], "faults[0]: headers must be an object"),
        ([{"headers": {"a b": "c"}}], "faults[0]: headers must map names of headers to texts without control"),
        ([{"headers": {"a": "c\r\n"}}], "faults[0]: headers must map names of headers to texts without control"),
        ([{"raw": 7}], "faults[0]: raw must be a text"),
        ([{"raw": "x", "status": 200}], "faults[0]: raw excludes status and drop"),
    ],
)
async def test_scripts_are_checked(client: Client, sandbox: Sandbox, body: Any, problem: str) -> None:
    """An invalid script is answered 400 with the position, and changes nothing."""
    sandbox.faults([Fault(status=500)], TOKEN)
    answer = await client.call("PUT", "/_sandbox/faults", json=body)
    assert answer.status == 400
    assert answer.body["error"].startswith(problem)
    assert sandbox.faults_left(TOKEN) == [Fault(status=500)]


def test_a_fault_is_checked_when_made() -> None:
    """Python raises the same messages."""
    with pytest.raises(ValueError, match="latency must be a number"):
        Fault(latency=float("nan"))
    assert Fault().times == 1
