"""The limit of nested JSON, at every entrance."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from salesmachine_async.errors import InvalidMessage
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.sandbox.messages import MAX_DEPTH, MAX_PARAMS_DEPTH
from salesmachine_async.testing import Workspace
from tests.sandbox.conftest import TOKEN, Client


def nested(depth: int, kind: str = "object") -> Any:
    """Return a value of *depth* levels."""
    value: Any = {} if kind == "object" else []
    for _ in range(depth - 1):
        value = {"a": value} if kind == "object" else [value]
    return value


def event(depth: int) -> dict[str, Any]:
    return {"contact_uid": "1", "event_uid": "x", "params": nested(depth)}


async def send(client: Client, entrance: str, depth: int) -> int:
    """Send params of *depth* levels, and return the status."""
    text = json.dumps(event(depth))
    line = json.dumps({"method": "event", **event(depth)})
    answer: Any
    match entrance:
        case "single":
            answer = await client.send("/v1/track/event", text)
        case "batch":
            answer = await client.send("/v1/batch", f"[{line}]")
        case "form":
            answer = await client.call("POST", "/v1/track/event", data={"data": text})
        case "query":
            path = f"/v1/track/event?api_token={TOKEN}&_method=post&data={quote(text)}"
            answer = await client.of(None).call("GET", path)
        case "replay":
            answer = await client.send("/_sandbox/replay", line, "application/x-ndjson")
        case "replayed object":
            line = json.dumps({"object": "task", "type": "call", "body": nested(depth - 1)})
            answer = await client.send("/_sandbox/replay", line, "application/x-ndjson")
        case "wait":
            match = {"params": {"x": nested(depth - 3, "array")}}
            answer = await client.post("/_sandbox/wait", {"match": match, "timeout": 0})
        case _:
            faults = [{"status": 503, "path": "/v1/none", "body": nested(depth - 2)}]
            answer = await client.call("PUT", "/_sandbox/faults", json=faults)
    return int(answer.status)


async def update(response: aiohttp.ClientResponse) -> Any:
    """Return the next update of the stream."""
    line = b""
    while not line.startswith(b"data: "):
        line = await response.content.readline()
    return json.loads(line[6:])


PATHS = ["events", "contacts", "requests", "requests/1", "rejected", "changes?contact_uid=1", "faults", "export"]
# The limit of each entrance: what an agent writes, with the message around the params, is accepted.
MESSAGES = dict.fromkeys(["single", "batch", "form", "query", "replay"], MAX_PARAMS_DEPTH)
ENTRANCES = {**MESSAGES, **dict.fromkeys(["replayed object", "wait", "faults"], MAX_DEPTH)}
DEEPER = [(entrance, depth) for entrance, most in ENTRANCES.items() for depth in (most + 1, 255, 900, 5000)]


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_the_deepest_value_is_accepted_and_shown_everywhere(
    client: Client, sandbox: Sandbox, entrance: str
) -> None:
    """What is accepted can be written by each endpoint that shows it."""
    await client.track("1", "y")
    assert await send(client, entrance, ENTRANCES[entrance]) in (200, 201, 408)
    await client.post("/v1/none", {})
    for path in (
        "events",
        "contacts",
        "requests",
        "changes?contact_uid=1",
        "faults",
        "export",
        "requests/1",
        "rejected",
    ):
        async with client.session.get(f"{client.url}/_sandbox/{path}", headers=client.headers) as response:
            assert response.status == 200, path
            await response.read()
    async with client.session.get(f"{client.url}/_sandbox/stream", headers=client.headers) as response:
        assert (await update(response))["summary"]["workspaces"] == 1
        # Messages that arrive during a stream are part of an update.
        assert await send(client, entrance, ENTRANCES[entrance]) in (200, 201, 408)
        if entrance in MESSAGES:
            assert len((await update(response))["messages"]) == 1
    answer = await client.post("/_sandbox/wait", {"match": {"event_uid": "x", "params.no": 1}, "timeout": 0})
    assert answer.status == 408
    answer = await client.post("/_sandbox/wait", {"match": {"event_uid": "x"}, "timeout": 0})
    assert answer.status == (200 if entrance in MESSAGES else 408)
    exported = b"".join(sandbox.export())
    assert sandbox.replay(exported.splitlines(), "copy")["lines"] == len(exported.splitlines())


@pytest.mark.parametrize(("entrance", "depth"), DEEPER)
async def test_a_deeper_value_is_rejected(client: Client, sandbox: Sandbox, entrance: str, depth: int) -> None:
    """A deeper value is answered 400 at each entrance, and nothing is kept."""
    try:
        assert await send(client, entrance, depth) == 400
    except RecursionError:
        pytest.skip("this interpreter cannot write the request")
    assert sandbox.summary()["events"] == 0
    assert sandbox.faults_left() == []


def test_a_seed_or_a_fault_that_is_too_deep_is_rejected() -> None:
    """Python callers get the same limit."""
    with pytest.raises(ValueError, match="line 1: params is nested too deeply; the limit is 253 levels"):
        Sandbox(seed=[{"method": "event", **event(MAX_PARAMS_DEPTH + 1)}])
    with pytest.raises(ValueError, match="body is nested too deeply"):
        Fault(status=503, body=nested(MAX_DEPTH + 1))
    Sandbox(seed=[{"method": "event", **event(MAX_PARAMS_DEPTH)}])
    Fault(status=503, body=nested(MAX_DEPTH))


@pytest.mark.parametrize("kind", ["object", "array"])
@pytest.mark.parametrize("more", [{}, {"money": Decimal(1)}], ids=["plain", "converted"])
async def test_what_an_agent_accepts_is_accepted(kind: str, more: dict[str, Any]) -> None:
    """The call refuses what is nested too deeply to be sent; everything else can be read and exported."""
    params = {"value": nested(MAX_PARAMS_DEPTH - 1, kind), **more}
    async with Sandbox() as sandbox:
        workspace = Workspace(sandbox)
        async with workspace.agent() as agent:
            agent.track("u", "deep", params)
            agent.contact("u", params)
            with pytest.raises(InvalidMessage, match="nested deeper than 253 levels"):
                agent.track("u", "deeper", {"value": nested(MAX_PARAMS_DEPTH, kind), **more})
        assert agent.stats().delivered == 2
        expected = json.loads(json.dumps(params, default=str))
        assert [event["params"] for event in workspace.events()] == [expected]
        assert workspace.contact("u")["params"] == expected
        exported = b"".join(sandbox.export()).splitlines()
        assert sandbox.replay(exported, "copy")["lines"] == len(exported)
