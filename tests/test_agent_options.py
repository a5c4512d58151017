"""The options of an agent that concern every call: params, enabled, debug."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from salesmachine_async import Agent, Batch, Batching, ConfigError, State
from salesmachine_async._core.partition import partition_of
from tests.support.carriers import Carrier, answer

AT = datetime(2026, 1, 2, tzinfo=UTC)


# params


async def test_params_go_with_every_message_and_those_of_a_call_win() -> None:
    """Contacts, accounts, events and pageviews, encoded the fast way and the slow one; aliases have no params."""
    carrier = Carrier()
    async with Agent(transport=carrier, params={"release": "1.2", "plan": "free"}) as agent:
        ways: list[dict[str, Any]] = [{}, {"created_at": AT}]
        for options in ways:
            agent.contact("u", {"plan": "pro"}, **options)
            agent.account("a", **options)
            agent.track("u", "e", None, **options)
            agent.track("u", "e", {"n": 1}, **options)
            agent.pageview("u", {"plan": "pro", "release": None}, **options)
        agent.contact("u", MappingProxyType({"n": 1}))
        agent.alias("u", "v")
    bound = {"release": "1.2", "plan": "free"}
    each = [{**bound, "plan": "pro"}, bound, bound, {**bound, "n": 1}, {"release": None, "plan": "pro"}]
    assert [message.get("params") for message in carrier.delivered] == [*each, *each, {**bound, "n": 1}, None]


async def test_params_are_those_of_the_construction() -> None:
    """Odd values are converted once, and a later change of the caller's mapping is not sent."""
    params: dict[str, Any] = {"at": AT, "tags": ["a"]}
    carrier = Carrier()
    async with Agent(transport=carrier, params=params) as agent:
        params["tags"].append("b")
        params["more"] = 1
        agent.track("u", "e")
    assert carrier.delivered[0]["params"] == {"at": "2026-01-02T00:00:00Z", "tags": ["a"]}


@pytest.mark.parametrize("params", [[("a", 1)], "a", {"a": object()}])
def test_unusable_params_are_refused_at_the_construction(params: Any) -> None:
    """The error has the name of the argument or the path of the value."""
    with pytest.raises(ConfigError, match="params"):
        Agent(transport=Carrier(), params=params)


async def test_a_wrong_type_of_params_is_named_as_without_bound_ones() -> None:
    """Params of a call that are no mapping raise the same error as without params of the agent."""
    async with Agent(transport=Carrier(), params={"release": 1}) as agent:
        with pytest.raises(ValueError, match="params: must be a mapping"):
            agent.track("u", "e", [1])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="params: must be a mapping"):
            agent.account("a", [1])  # type: ignore[arg-type]


# enabled


@pytest.mark.parametrize("way", ["argument", "environment"])
async def test_a_disabled_agent_accepts_everything_and_sends_nothing(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disabled agent needs no token and no loop, and each call returns True, whatever its arguments."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)
    if way == "environment":
        monkeypatch.setenv("SALESMACHINE_ENABLED", "0")
    agent = Agent(enabled=False) if way == "argument" else Agent()
    assert agent.contact("u", {"x": object()})
    assert agent.account("a")
    assert agent.track("", "e")
    assert agent.pageview("u", created_at=AT)
    assert agent.alias("u", "v")
    async with agent:
        await agent.ping()
        await agent.drain()
        assert (await agent.flush()).ok
    assert (await agent.aclose()).ok
    assert agent.track("u", "after the end")
    stats = agent.stats()
    assert (stats.accepted, stats.queued, stats.requests, stats.dropped, stats.state) == (0, 0, 0, {}, State.NEW)


async def test_the_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument takes precedence over the variable; the default, also of an empty variable, is True."""
    carrier = Carrier()
    for value, argument in (("0", True), ("", None), ("1", None)):
        monkeypatch.setenv("SALESMACHINE_ENABLED", value)
        async with Agent(transport=carrier, enabled=argument) as agent:
            agent.track("u", "e")
    assert len(carrier.delivered) == 3


@pytest.mark.parametrize("name", ["enabled", "debug"])
def test_unusable_switches_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, or the variable in its place."""
    with pytest.raises(ConfigError, match=f"{name} must be True, False or None, not str"):
        Agent(transport=Carrier(), **{name: "no"})  # type: ignore[arg-type]
    monkeypatch.setenv(f"SALESMACHINE_{name.upper()}", "perhaps")
    with pytest.raises(ConfigError, match=f"SALESMACHINE_{name.upper()} must be 1 or 0"):
        Agent(transport=Carrier())


# debug


async def test_debug_logs_each_message_and_each_answer(caplog: pytest.LogCaptureFixture) -> None:
    """debug=True logs messages and answers at DEBUG; the default logs nothing."""
    caplog.set_level(logging.DEBUG, "salesmachine_async")
    async with Agent(transport=Carrier([answer(503)]), debug=True, batching=Batching(linger=0)) as agent:
        agent.track("u", "e", {"plan": "pro"})
        agent.alias("u", "v")
        await agent.flush(10)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert any(line.startswith("accepted {") and '"plan":"pro"' in line for line in lines)
    assert any(line.startswith("accepted {") and '"alias":"v"' in line for line in lines)
    assert any("status 503" in line for line in lines)
    assert any("delivered" in line and "status 201" in line for line in lines)


@pytest.mark.slow
def test_debug_is_seen_on_stderr_where_no_logging_is_configured() -> None:
    """debug=True writes to stderr without the token, unless logging is configured."""
    code = """
import asyncio, sys
from salesmachine_async import Agent
async def main():
    async with Agent("the-token", "the-secret", base_url="http://127.0.0.1:1", debug=True) as agent:
        agent.track("u", "e")
        await agent.aclose(0.1)
if "configured" in sys.argv:
    import logging
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
asyncio.run(main())
"""
    for arguments, expected in (((), True), (("configured",), False)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=50, check=True
        )
        assert ("salesmachine_async: accepted {" in done.stderr) == expected, done
        assert "the-token" not in done.stderr + done.stdout
        assert "the-secret" not in done.stderr + done.stdout


# transport


class Queues(Carrier):
    """A transport with ordered queues of its own."""

    partitions: Any = 3


async def test_the_partitions_of_a_transport_are_the_concurrency() -> None:
    """The agent has as many partitions as the transport, and the batches of a contact have one of them."""
    carrier, seen = Queues(), dict[str, set[int]]()

    def note(batch: Batch) -> None:
        for message in batch.messages():
            seen.setdefault(message["contact_uid"], set()).add(batch.partition)

    carrier.decide = note
    async with Agent(transport=carrier, batching=Batching(max_messages=2)) as agent:
        for i in range(60):
            agent.track(f"u{i % 20}", "e")
    assert seen == {f"u{i}": {partition_of(f"u{i}", 3)} for i in range(20)}
    assert len(set.union(*seen.values())) == 3


@pytest.mark.parametrize(
    ("partitions", "concurrency", "problem"),
    [(0, 1, "transport.partitions"), ("3", 1, "transport.partitions"), (3, 2, "has 3 partitions")],
)
def test_unusable_partitions_of_a_transport(partitions: Any, concurrency: int, problem: str) -> None:
    """The constructor refuses unusable partitions, and a concurrency that contradicts them."""
    carrier = Queues()
    carrier.partitions = partitions
    with pytest.raises(ConfigError, match=problem):
        Agent(transport=carrier, concurrency=concurrency)


def test_the_same_concurrency_does_not_contradict() -> None:
    """A concurrency that says the same is allowed."""
    assert repr(Agent(transport=Queues(), concurrency=3)).startswith("<Agent [new")
