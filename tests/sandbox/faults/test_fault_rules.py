"""Random, partial and slow faults, the rate limit, and the log of rejected requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from salesmachine_async.sandbox import Fault, RateLimit, Sandbox
from salesmachine_async.sandbox.faults.rate_limit import MAX_BUCKETS, RateLimiter
from salesmachine_async.sandbox.http.auth import workspace_of
from salesmachine_async.sandbox.http.responses import ApiError
from tests.sandbox.conftest import TOKEN, Client

BATCH = [{"method": "event", "contact_uid": "1", "event_uid": "x", "messageId": str(n)} for n in range(5)]


async def pings(client: Client, count: int) -> list[int]:
    return [(await client.post("/v1/ping")).status for _ in range(count)]


async def test_chance_with_a_seed_is_the_same_in_every_run(client: Client, sandbox: Sandbox) -> None:
    """A probability skips some requests, reproducibly with a seed; `times` counts only affected requests."""
    fault = Fault(status=503, probability=0.5, seed=7, times=None)
    sandbox.faults([fault])
    first = await pings(client, 20)
    sandbox.faults([fault])
    assert await pings(client, 20) == first
    assert {200, 503} == set(first)
    sandbox.faults([Fault(status=503, probability=0.5, seed=7, times=3), Fault(status=500, times=None)])
    seen = await pings(client, 20)
    assert (seen.count(503), seen.count(500)) == (3, 17)


async def test_chance_without_a_seed(client: Client, sandbox: Sandbox) -> None:
    """Without a seed the choice is random."""
    sandbox.faults([Fault(status=503, probability=0.999999, times=None)])
    assert 503 in await pings(client, 3)
    assert sandbox.faults_left()[0].to_json() == {"times": None, "status": 503, "probability": 0.999999}


@pytest.mark.parametrize(("partial", "kept"), [(0, 0), (2, 2), (9, 5)])
async def test_partial_accept(client: Client, sandbox: Sandbox, partial: int, kept: int) -> None:
    """The first messages of a batch are applied without acknowledgement; a retry completes the batch."""
    sandbox.faults([Fault(partial=partial, status=500)])
    assert (await client.post("/v1/batch", BATCH)).status == 500
    assert len(sandbox.events()) == kept
    assert (await client.post("/v1/batch", BATCH)).status == 201
    assert (len(sandbox.events()), sandbox.summary()["duplicates"]) == (5, kept)


async def test_partial_accept_with_the_usual_response(client: Client, sandbox: Sandbox) -> None:
    """Without a status a partial batch gets the usual response."""
    sandbox.faults([Fault(partial=1)])
    assert (await client.post("/v1/batch", BATCH)).status == 201
    assert len(sandbox.events()) == 1


async def test_slow_body(client: Client, sandbox: Sandbox) -> None:
    """The head is sent at once, the body in pieces."""
    sandbox.faults([Fault(slow=0.02), Fault(slow=600)])
    answer = await client.post("/v1/ping")
    assert (answer.status, answer.body) == (200, {"status": "success"})
    async with client.session.post(f"{client.url}/v1/ping", headers=client.headers) as response:
        assert (response.status, response.content_length) == (200, 20)
        read = asyncio.create_task(response.read())
        # Stopping the server ends it.
        await sandbox.aclose()
        assert await read == b'{"status":"success"}'


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"probability": 0}, "probability must be a number above 0, and at most 1"),
        ({"probability": 1.5}, "probability must be"),
        ({"seed": 1.5}, "seed must be a whole number, or null"),
        ({"partial": -1}, "partial must be 0 or more, or null"),
        ({"slow": -1}, "slow must be a number of seconds"),
        ({"slow": 1, "drop": "after"}, "slow excludes raw and drop"),
        ({"slow": 1, "raw": "x"}, "slow excludes raw and drop"),
        ({"partial": 1, "drop": "before"}, "partial excludes dropping"),
        ({"path": "/v1/*/x"}, "path may contain * only as the last character"),
    ],
)
def test_bad_faults(fields: Any, problem: str) -> None:
    """A contradictory fault is rejected."""
    with pytest.raises(ValueError, match=problem.replace("*", r"\*")):
        Fault.parse(fields)


async def test_rate_limit(session: Any) -> None:
    """Excess requests of a workspace are answered 429 with the time to wait."""
    async with Sandbox(rate_limit=RateLimit(requests=2, per=3600)) as sandbox:
        client = Client(session, sandbox.url)
        assert await pings(client, 3) == [200, 200, 429]
        answer = await client.call("GET", "/v2/contacts")
        assert answer.body == {"error": "rate limit exceeded: 2 requests in 3600 s"}
        assert 1700 < int(answer.headers["Retry-After"]) <= 1800
        assert await pings(client.of("other"), 1) == [200]
        assert (await client.get("summary"))["requests"] == {"200": 2, "429": 2}
        sandbox.rate_limit(None)
        assert await pings(client, 3) == [200] * 3


async def test_rate_limit_over_http(client: Client) -> None:
    """The limit can be read, set and removed."""
    path = "/_sandbox/rate-limit"
    assert (await client.call("GET", path)).body == {"rate_limit": None}
    answer = await client.call("PUT", path, json={"requests": 1, "per": 3600})
    assert answer.body == {"rate_limit": {"requests": 1, "per": 3600}}
    assert await pings(client, 2) == [200, 429]
    assert (await client.call("DELETE", path)).body == {"rate_limit": None}
    for body in (None, {}, {"requests": 0}, {"requests": True}, {"requests": 1, "per": 0}, {"requests": 1, "x": 1}):
        assert (await client.call("PUT", path, json=body)).status == 400


def test_a_pause_is_credited() -> None:
    """Credit grows with time, up to the full number."""
    now = [0.0]
    rate_limiter = RateLimiter(RateLimit(requests=2, per=10), lambda: now[0])
    for at, admitted in (
        (0, True),
        (0, True),
        (4, False),
        (5, True),
        (5, False),
        (500, True),
        (500, True),
        (500, False),
    ):
        now[0] = at
        if admitted:
            rate_limiter.admit("w")
        else:
            with pytest.raises(ApiError):
                rate_limiter.admit("w")


def test_made_up_tokens_get_no_memory() -> None:
    """The least recently used buckets are evicted."""
    rate_limiter = RateLimiter(RateLimit(requests=1), lambda: 0.0)
    for n in range(MAX_BUCKETS + 10):
        rate_limiter.admit(str(n))
    assert len(rate_limiter._buckets) == MAX_BUCKETS
    rate_limiter.admit("0")


async def test_rejected(client: Client, sandbox: Sandbox) -> None:
    """The log of a rejected request contains the invalid item and its index."""
    await client.post("/v1/batch", [BATCH[0], {"method": "event", "params": {"x": "y" * 2000}}])
    await client.send("/v1/contact", '{"contact_uid": ')
    await client.post("/v1/account", {"x": 1})
    await client.of("other").post("/v1/contact", [])
    rejected = sandbox.rejected(TOKEN)
    assert [(each["id"], each["index"], each["error"], each["items"]) for each in rejected] == [
        (1, 1, "items[1].contact_uid is missing", 2),
        (2, None, rejected[1]["error"], 0),
        (3, None, "account_uid is missing", 1),
    ]
    assert [len(each["excerpt"]) for each in rejected] == [1000, 16, 8]
    assert len(sandbox.rejected()) == 4
    assert (await client.get("rejected"))["rejected"] == rejected
    answer = await client.get("rejected", limit="2", order="desc")
    assert ([each["id"] for each in answer["rejected"]], answer["next"]) == ([3, 2], 2)
    sandbox.reset(TOKEN)
    assert [each["id"] for each in sandbox.rejected()] == [4]


async def test_an_item_too_deep_to_show(client: Client, sandbox: Sandbox) -> None:
    """An item that JSON cannot represent has no excerpt."""
    await client.send("/v1/batch", '[{"method": "event", "params": ' + '{"x":' * 300 + "1" + "}" * 301 + "]")
    (rejected,) = sandbox.rejected()
    assert (rejected["index"], rejected["excerpt"]) == (0, "…")


async def test_newest_first(client: Client, sandbox: Sandbox) -> None:
    """Events and requests can be listed newest first, with a cursor."""
    for n in range(5):
        await client.track("1", f"e{n}")
    page = await client.get("events", order="desc", limit="3")
    assert ([each["seq"] for each in page["events"]], page["next"]) == ([5, 4, 3], 3)
    page = await client.get("events", order="desc", limit="3", after="3")
    assert ([each["seq"] for each in page["events"]], page["next"]) == ([2, 1], None)
    page = await client.get("requests", order="desc", limit="2", after="4")
    assert [each["id"] for each in page["requests"]] == [3, 2]


async def test_text_is_searched(client: Client) -> None:
    """A search matches uids and fields literally, ignoring case."""
    await client.contact("Ann", plan="100%", account_uid="Acme")
    await client.contact("bob", plan="50_")
    await client.track("bob", "Order", city="Zürich")
    for path, text, found in (
        ("contacts", "aNN", ["Ann"]),
        ("contacts", "0%", ["Ann"]),
        ("contacts", "_", ["Ann", "bob"]),
        ("contacts", "50_", ["bob"]),
        ("contacts", "zürich", []),
        ("accounts", "acm", ["Acme"]),
        ("accounts", "x", []),
        ("events", "ORD", ["bob"]),
        ("events", "Zürich", ["bob"]),
        ("events", "x", []),
    ):
        rows = (await client.get(path, q=text))[path]
        assert [each.get("contact_uid") or each["account_uid"] for each in rows] == found, (path, text)


async def test_workspaces(client: Client) -> None:
    """All workspaces are listed with their public names, which select them."""
    await client.contact("1", account_uid="9")
    await client.of("other").track("2", "x")
    names = [workspace_of(TOKEN), workspace_of("other")]
    listed = (await client.of(None).get("workspaces"))["workspaces"]
    counts = [[each[name] for name in ("workspace", "contacts", "accounts", "events")] for each in listed]
    assert counts == [[names[0], 1, 1, 0], [names[1], 1, 0, 1]]
    assert len((await client.of(None).get("events", workspace=names[1]))["events"]) == 1
    assert (await client.of(None).call("GET", "/_sandbox/events?workspace=x")).status == 400
