"""Tracking plans."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.sandbox.messages import parse_message
from salesmachine_async.sandbox.plan.infer import infer_plan
from salesmachine_async.sandbox.plan.schema import PlanError, TrackingPlan
from tests.sandbox.conftest import TOKEN, Client

PLAN = {
    "events": {
        "order": {
            "type": "object",
            "required": ["amount"],
            "properties": {
                "amount": {"type": "number", "minimum": 0},
                "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
                "currency": {"pattern": "^[A-Z]{3}$"},
            },
            "additionalProperties": True,
        },
    },
    "contacts": {"properties": {"email": {"type": "string"}}},
    "accounts": {"required": ["name"]},
}


def problems(kind: str, name: str, params: Any, plan: Any = PLAN) -> list[str]:
    return [str(problem) for problem in TrackingPlan(plan).judge(kind, name, params)]


@pytest.mark.parametrize(
    ("kind", "name", "params", "expected"),
    [
        ("event", "order", {"amount": 9.5, "more": 1}, []),
        ("event", "order", {}, ["params: 'amount' is a required property"]),
        ("event", "order", {"amount": "9"}, ["params.amount: '9' is not of type 'number'"]),
        ("event", "order", {"amount": 1, "items": [{"sku": 1}, {}]}, ["params.items[1]: 'sku' is a required property"]),
        ("event", "order", {"amount": 1, "currency": "eur"}, ["params.currency: 'eur' does not match '^[A-Z]{3}$'"]),
        ("event", "ordr", {"amount": 1}, ["event_uid: is not an event of the plan"]),
        ("contact", "", {"email": 1}, ["params.email: 1 is not of type 'string'"]),
        ("contact", "", {}, []),
        ("account", "", {}, ["params: 'name' is a required property"]),
        ("alias", "2", {}, []),
    ],
)
def test_messages_are_good_or_bad(kind: str, name: str, params: Any, expected: list[str]) -> None:
    """Each problem has a path and a reason."""
    assert problems(kind, name, params) == expected


def test_events_that_the_plan_does_not_name() -> None:
    """Without `events`, or with `other_events`, any event is good."""
    assert problems("event", "x", {}, {}) == problems("event", "x", {}, {"events": {}, "other_events": True}) == []
    assert problems("event", "x", {}, {"events": {}}) == ["event_uid: is not an event of the plan"]


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"event": {}}, "unknown key 'event' in the plan; expected one of events, contacts, accounts, other_events"),
        ({"events": []}, "events must be an object"),
        ({"other_events": 1}, "other_events must be true or false"),
        ({"events": {"x": {"type": "nothing"}}}, "events.x: 'nothing' is not valid"),
        ({"contacts": {"properties": {"a": {"pattern": "(a+)+"}}}}, "contacts: pattern has a repetition"),
        ({"contacts": {"patternProperties": {"(a+)+": {}}}}, "contacts: pattern has a repetition"),
        ({"accounts": {"$ref": "http://127.0.0.1:1/schema"}}, r"accounts: \$ref is not supported"),
    ],
)
def test_invalid_plans_are_rejected(plan: Any, reason: str) -> None:
    """The place and the problem are named when the sandbox is created."""
    with pytest.raises(PlanError, match=reason):
        Sandbox(plan=plan)


def test_a_plan_is_read_from_a_file(tmp_path: Path) -> None:
    """A file that is missing or not JSON is an error of its own kind."""
    file = tmp_path / "plan.json"
    with pytest.raises(FileNotFoundError):
        Sandbox(plan=file)
    file.write_text("{")
    with pytest.raises(PlanError, match="not valid JSON"):
        Sandbox(plan=str(file))
    file.write_text(json.dumps(PLAN))
    Sandbox(plan=file)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a schema needs the library of the extra."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    Sandbox(plan={})
    with pytest.raises(ModuleNotFoundError):
        Sandbox(plan=PLAN)


def test_values_of_any_size_are_checked_in_bounded_time() -> None:
    """Large params, long values and many equal items have no slow check."""
    plan = {"events": {"x": {"properties": {"a": {"pattern": "^a+b+$"}, "b": {"uniqueItems": True}}}}}
    assert problems("event", "x", {"a": "a" * 10_000}, plan) == [
        "params.a: is longer than 256 characters, the limit of pattern"
    ]
    assert problems("event", "x", {"b": [{}] * 10_000}, plan) == ["params.b: has equal items"]
    found = TrackingPlan(plan).judge("event", "x", {}, 2**20)
    assert [str(problem) for problem in found] == ["params: is larger than 65536 characters, the limit of the plan"]
    many = {"events": {"x": {"additionalProperties": {"type": "string"}}}}
    assert len(problems("event", "x", {str(n): n for n in range(1000)}, many)) == 20


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(plan=PLAN) as sandbox:
        yield sandbox


async def test_the_verdict_is_shown_everywhere(client: Client, sandbox: Sandbox) -> None:
    """The summary, lists, details, wait and Python show which messages are bad, and why."""
    await client.track("1", "order", amount=1)
    await client.track("1", "order", amount="1")
    await client.contact("1", email="a@b.c")
    await client.of("other").account("9")
    reason = {"path": "params.amount", "reason": "'1' is not of type 'number'"}
    mine = client.of(TOKEN)
    assert (await mine.get("summary"))["plan"] == {"good": 2, "bad": 1}
    assert sandbox.summary()["plan"] == {"good": 2, "bad": 2}  # type: ignore[typeddict-item]
    events = (await mine.get("events"))["events"]
    assert [event["problems"] for event in events] == [[], [reason]]
    assert [event["seq"] for event in (await mine.get("events", plan="bad"))["events"]] == [2]
    assert [event["seq"] for event in (await mine.get("events", plan="good"))["events"]] == [1]
    body = {"match": {"event_uid": "order"}, "count": 2}
    waited = (await mine.post("/_sandbox/wait", body)).body
    assert [item["problems"] for item in waited["items"]] == [[], [reason]]
    request = await mine.get("requests/2")
    assert request["messages"][0]["problems"] == [reason]
    plan = await mine.get("plan")
    assert (plan["plan"], [bad["problems"] for bad in plan["bad"]]) == ({"good": 2, "bad": 1}, [[reason]])
    assert [bad["method"] for bad in sandbox.bad_messages()] == ["event", "account"]
    exported = b"".join(sandbox.export(TOKEN))
    assert b"problems" not in exported
    sandbox.replay(exported.splitlines(), "copy")
    assert len(sandbox.bad_messages("copy")) == 1
    sandbox.reset(TOKEN)
    assert (await mine.get("plan")) == {"plan": {"good": 0, "bad": 0}, "bad": []}


async def test_without_a_plan_nothing_is_shown(session: Any) -> None:
    """Without a plan the results have no verdict, and a filter by it is an error."""
    async with Sandbox() as sandbox:
        client = Client(session, sandbox.url)
        await client.track("1", "x")
        assert "problems" not in sandbox.events()[0]
        assert "plan" not in sandbox.summary()
        assert (await client.get("plan")) == {"plan": None, "bad": []}
        answer = await client.call("GET", "/_sandbox/events?plan=bad")
        assert (answer.status, "start it with --plan" in answer.body["error"]) == (400, True)


def test_inference() -> None:
    """The inferred plan accepts the messages it is made of, and rejects other types and missing fields."""
    messages: list[dict[str, Any]] = [
        {"contact_uid": "1", "event_uid": "order", "params": {"amount": 1, "items": [{"sku": "a"}], "note": None}},
        {"contact_uid": "1", "event_uid": "order", "params": {"amount": 2.5, "items": [], "note": "x"}},
        {"contact_uid": "1", "event_uid": "pageview", "params": {}},
    ]
    parsed = [parse_message("event", message) for message in messages]
    parsed.append(parse_message("contact", {"contact_uid": "1", "params": {"email": "a"}}))
    plan = infer_plan(parsed)
    assert plan["events"]["order"] == {
        "type": "object",
        "required": ["amount", "items", "note"],
        "properties": {
            "amount": {"type": "number"},
            "items": {
                "type": "array",
                "items": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}},
            },
            "note": {"type": ["null", "string"]},
        },
    }
    assert plan["contacts"] == {"type": "object", "properties": {"email": {"type": "string"}}}
    assert "accounts" not in plan
    judge = TrackingPlan(plan).judge
    assert all(not judge(each.kind, each.name, each.params) for each in parsed)
    assert judge("event", "order", {"amount": 1, "items": []})
    assert judge("event", "order", {"amount": "1", "items": [], "note": None})
