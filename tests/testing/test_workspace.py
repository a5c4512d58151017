"""The workspace of a test in a sandbox: token, faults, waiting."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import Batching, Retry
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import Workspace, serve

QUICK = Retry(wait_initial=0.001)


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def workspace(server: Sandbox) -> Workspace:
    return Workspace(server)


def test_a_synchronous_test_waits_for_what_a_thread_sends(workspace: Workspace) -> None:
    """wait_for returns the events that a thread sends."""
    with workspace.threaded_agent() as agent:
        agent.track("u", "ordered", {"order": 9, "plan": {"name": "pro"}})
        agent.track("v", "ordered", {"order": 10})
        agent.flush()
        (event,) = workspace.wait_for("ordered", contact_uid="u", plan={"name": "pro"})
        assert event["params"]["order"] == 9
        assert len(workspace.wait_for("ordered", count=2)) == 2


async def test_an_asynchronous_test_waits_without_blocking_its_agent(workspace: Workspace) -> None:
    """wait_for_async leaves the event loop to the agent."""
    async with workspace.agent() as agent:
        agent.track("u", "ordered")
        waiting = workspace.wait_for_async("ordered")
        await agent.flush()
        assert len(await waiting) == 1


async def test_faults_come_in_order(workspace: Workspace) -> None:
    """faults() takes statuses, faults and lists of them; without arguments it removes them."""
    workspace.faults(503, Fault(status=429, retry_after=0), [500])
    async with workspace.agent(retry=QUICK) as agent:
        agent.track("u", "ordered")
        assert (await agent.flush()).ok
        assert [request["status"] for request in workspace.requests()] == [503, 429, 500, 201]
        workspace.faults(503)
        workspace.faults()
        agent.track("u", "again")
        assert (await agent.flush()).ok
        assert agent.stats().retries == 3


def test_a_timeout_shows_the_nearest_miss(workspace: Workspace) -> None:
    """A search that times out shows the nearest miss."""
    with workspace.threaded_agent() as agent:
        agent.track("u", "ordered", {"order": "9"})
    with pytest.raises(AssertionError) as caught:
        workspace.wait_for("ordered", timeout=0, order=9)
    text = str(caught.value)
    assert text.startswith(
        "no event with event_uid='ordered', params.order=9 within 0 s; 1 message was tracked in all."
    )
    assert "    - params.order: 9\n    + params.order: '9'" in text


def test_too_few_are_counted(workspace: Workspace) -> None:
    """A search that finds too few events shows their number and the messages that arrived."""
    with workspace.threaded_agent() as agent:
        agent.track("u", "ordered")
    with pytest.raises(
        AssertionError, match=r"^only 1 of 2 within 0.01 s: event with event_uid='ordered'; 1 message was"
    ):
        workspace.wait_for("ordered", count=2, timeout=0.01)


async def test_the_asynchronous_wait_fails_alike(workspace: Workspace) -> None:
    """wait_for_async fails with the same text as wait_for."""
    with pytest.raises(AssertionError, match=r"^no event with event_uid='e' within 0.02 s; no message at all"):
        await workspace.wait_for_async("e", timeout=0.02)


async def test_workspaces_do_not_see_each_other(server: Sandbox) -> None:
    """A workspace sees neither messages nor faults of another, so tests may run in parallel."""
    one, other = Workspace(server), Workspace(server)
    one.faults(503)
    async with other.agent() as agent:
        agent.contact("u", {"email": "e", "account_uid": "acme"})
        agent.account("acme", {"name": "Acme"})
        agent.track("u", "e", {"account_uid": "acme"})
    assert one.events() == []
    assert one.contacts() == []
    assert other.contact("u")["params"]["email"] == "e"
    assert other.account("acme")["params"] == {"name": "Acme"}
    assert [contact["contact_uid"] for contact in other.contacts()] == ["u"]
    assert len(other.events("e", "u", "acme")) == 1
    assert other.summary()["accepted"] == 3
    other.reset()
    assert other.events() == []


def test_a_failure_names_messages_still_held_by_agents(workspace: Workspace) -> None:
    """A failure names messages still held by agents, whose loop has ended or which send to another server."""
    agent = workspace.agent()
    with pytest.raises(AssertionError) as caught:
        workspace.wait_for("e", timeout=0)
    assert "still hold" not in str(caught.value)
    agent.track("u", "e")
    with pytest.raises(AssertionError, match="Agents of this process still hold 1 message"):
        workspace.wait_for("e", timeout=0)
    asyncio.run(agent.aclose())
    assert workspace.wait_for("e")


@pytest.mark.parametrize("threaded", [True, False])
def test_waiting_skips_the_linger(workspace: Workspace, threaded: bool) -> None:
    """wait_for makes agents send at once, those with a thread and those on a running loop."""
    options: Any = {"batching": Batching(linger=3600)}
    if threaded:
        with workspace.threaded_agent(**options) as agent:
            agent.track("u", "e")
            assert workspace.wait_for("e", timeout=20)
        return

    async def main() -> None:
        async with workspace.agent(**options) as agent:
            agent.track("u", "e")
            assert await workspace.wait_for_async("e", timeout=20)
            agent.track("u", "f")
            assert await asyncio.to_thread(workspace.wait_for, "f", timeout=20)

    asyncio.run(main())


async def test_a_loop_that_closes_during_the_wait(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that closes during the wait is no error, because nothing is left to send."""

    def closed(*_: object) -> None:
        raise RuntimeError("Event loop is closed")

    async with workspace.agent() as agent:
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", closed)
        with pytest.raises(AssertionError, match="no message at all"):
            workspace.wait_for("e", timeout=0)
        assert agent.track("u", "e")


PLAN = {"events": {"ordered": {"required": ["order"], "properties": {"order": {"type": "integer"}}}}}


@pytest.mark.slow
def test_messages_are_checked_against_a_plan(workspace: Workspace) -> None:
    """The check waits for the agents of the process, and names each bad message with paths and reasons."""
    with workspace.threaded_agent(batching=Batching(linger=60)) as agent:
        agent.track("u", "ordered", {"order": 9})
        workspace.assert_plan(PLAN)
        agent.track("u", "ordered", {"order": "nine"})
        agent.track("v", "orderd", {})
        with pytest.raises(AssertionError) as failure:
            workspace.assert_plan(PLAN)
        text = str(failure.value)
        assert "ordered of u:\n    - params.order: 'nine' is not of type 'integer'" in text
        assert "orderd of v:\n    - event_uid: is not an event of the plan" in text
        assert "9" not in text


async def test_a_plan_is_not_checked_while_an_agent_holds_messages(workspace: Workspace) -> None:
    """An agent on the blocked event loop is reported instead of being ignored."""
    async with workspace.agent(batching=Batching(linger=60)) as agent:
        agent.track("u", "ordered", {"order": 9})
        with pytest.raises(AssertionError, match="still hold 1 message"):
            workspace.assert_plan(PLAN, timeout=0)
        await agent.flush()
        workspace.assert_plan(PLAN)


@pytest.mark.slow
def test_the_plan_of_the_pytest_options(tmp_path: Path) -> None:
    """The fixture takes the plan from the option `salesmachine_plan`, relative to the configuration file."""
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    (tmp_path / "pytest.ini").write_text("[pytest]\nsalesmachine_plan = plan.json\n")
    (tmp_path / "test_it.py").write_text(
        "def test_it(salesmachine_sandbox):\n"
        "    with salesmachine_sandbox.threaded_agent() as agent:\n"
        "        agent.track('u', 'ordered', {'order': 'nine'})\n"
        "        salesmachine_sandbox.assert_plan()\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "params.order: 'nine' is not of type 'integer'" in ended.stdout


def test_a_plan_is_needed(workspace: Workspace) -> None:
    """Without a plan the error says how to give one."""
    with pytest.raises(ValueError, match="pass one to assert_plan"):
        workspace.assert_plan()
