"""Applications and tests replace parts of the standard library: asyncio's loop, clocks, sockets, threads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import Workspace, serve
from tests.support.example_process import environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def workspace(server: Sandbox) -> Workspace:
    return Workspace(server)


def run(workspace: Workspace, code: str, *arguments: str) -> list[str]:
    """Run a program to its end against a sandbox; returns its lines on stdout and stderr."""
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, *arguments],
        cwd=ROOT,
        env=environment(workspace),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert workspace.summary()["duplicates"] == 0
    return ended.stdout.splitlines()


NESTED = """
import asyncio, sys
import nest_asyncio

def apply(when):
    if sys.argv[1] == when:
        asyncio.set_event_loop(asyncio.new_event_loop())
        nest_asyncio.apply(asyncio.get_event_loop_policy().get_event_loop())

apply("early")
from salesmachine_async import Agent, ThreadedAgent
apply("late")
threaded, module = ThreadedAgent(), Agent()
threaded.track("u", "threaded")
assert threaded.flush().delivered == 1
apply("thread runs")

async def inner(agent):
    agent.track("u", "inner")
    await agent.drain()
    assert (await agent.flush()).ok

async def outer():
    async with Agent() as agent:
        agent.track("u", "outer")
        if sys.argv[1] == "loop runs":
            assert (await agent.flush()).ok
            nest_asyncio.apply()
        asyncio.run(inner(agent))
        asyncio.get_running_loop().run_until_complete(inner(agent))
        async with Agent() as second:
            asyncio.run(inner(second))
            second.track("u", "second")
            asyncio.run(agent.aclose())
        threaded.track("u", "threaded")
        assert threaded.flush().ok
    assert agent.stats().delivered == 3

asyncio.run(outer())
for _ in range(2):
    asyncio.run(inner(module))
module.track("u", "module")
assert asyncio.run(module.aclose()).delivered == 3
threaded.track("u", "threaded")
assert threaded.close().delivered == 3
threaded = ThreadedAgent()
threaded.track("u", "exit")
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the last nest_asyncio hides the running task from 3.14")
@pytest.mark.parametrize("when", ["early", "late", "thread runs", "loop runs"])
def test_nest_asyncio(workspace: Workspace, when: str) -> None:
    """Loops in loops, applied before the import, after it, or while loops run: each message is delivered once."""
    pytest.importorskip("nest_asyncio")
    assert run(workspace, NESTED, when) == []
    names = sorted(event["event_uid"] for event in workspace.events())
    assert names == sorted(["outer", *["inner"] * 5, "second", "module", *["threaded"] * 3, "exit"])


# What a test puts in the place of functions and classes.
MOCKED = """
import aiohttp  # which keeps the clock of its import
import sys
from contextlib import ExitStack
from unittest import mock

KINDS = {"value": dict(return_value=5.0), "second call raises": dict(side_effect=[5.0]), "mock": {}, "error": dict(
    side_effect=OSError("refused by a test"))}

def mocked():
    stack = ExitStack()
    for target in sys.argv[2:]:
        stack.enter_context(mock.patch(target, **KINDS[sys.argv[1]]))
    return stack
"""
AT_IMPORT = """
with mocked():
    import salesmachine_async
    from salesmachine_async import Agent, ThreadedAgent, integrations
    import salesmachine_async.integrations.asgi, salesmachine_async.integrations.wsgi
"""
AT_A_CALL = """
from salesmachine_async import Agent, ThreadedAgent
agents = [ThreadedAgent(), ThreadedAgent()]
agents[0].track("u", "before")
agents[0].flush()
with mocked():
    for agent in agents:
        assert agent.track("u", "during")
        assert agent.track("u", "during", {"values": {1, 2}})
for agent in agents:
    agent.track("u", "after")
    assert agent.flush().ok
    assert agent.close().ok
"""
AFTER = """
import asyncio, datetime
agent = ThreadedAgent()
agent.track("u", "later", {"at": datetime.datetime(2026, 1, 1), "gap": datetime.timedelta(seconds=90)})
assert agent.flush().ok
agent.track("u", "later")
assert agent.close().ok

async def main():
    async with Agent() as agent:
        agent.track("u", "later")
        assert (await agent.flush()).ok

asyncio.run(main())
"""
CLOCKS = ("time.time", "time.monotonic", "time.perf_counter", "time.time_ns")
SOCKETS = ("socket.socket", "socket.getaddrinfo", "socket.create_connection")
FUNCTIONS = ("time.sleep", "ssl.create_default_context", "logging.getLogger", "random.uniform", "asyncio.sleep")
CLASSES = ("ssl.SSLContext", "ssl.SSLError", "threading.Thread", "threading.Lock", "datetime.datetime", "datetime.date")


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        *[(kind, CLOCKS) for kind in ("value", "second call raises")],
        *[(kind, SOCKETS) for kind in ("mock", "error")],
        ("mock", FUNCTIONS),
    ],
)
def test_mocks_at_the_import_have_no_effect_after_it(workspace: Workspace, kind: str, targets: tuple[str, ...]) -> None:
    """The package is imported while mocks are active; what is tracked later is delivered, at the real time."""
    assert run(workspace, MOCKED + AT_IMPORT + AFTER, kind, *targets) == []
    events = workspace.events()
    assert len(events) == 3
    assert {"at": "2026-01-01T00:00:00Z", "gap": 90.0} in [event["params"] for event in events]
    assert all(event["created_at"] > "2026" for event in events)


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        *[(kind, CLOCKS) for kind in ("value", "second call raises")],
        *[(kind, SOCKETS) for kind in ("mock", "error")],
        ("mock", FUNCTIONS),
        *[("mock", (name,)) for name in CLASSES],
    ],
)
def test_mocks_at_a_call_lose_nothing(workspace: Workspace, kind: str, targets: tuple[str, ...]) -> None:
    """Calls, the first one of an agent too, accept their messages while mocks are active; they are delivered then."""
    lines = run(workspace, MOCKED + AT_A_CALL + AFTER, kind, *targets)
    # asyncio prints what a callback of the agent's loop met whose clock raises; the callback is then repeated.
    wrong = ["undelivered", "lost"] + ["Traceback"] * (kind != "second call raises")
    assert not [line for line in lines if any(word in line for word in wrong)], lines
    names = sorted(event["event_uid"] for event in workspace.events())
    assert names == sorted(["before", *["during"] * 4, *["after"] * 2, *["later"] * 3])
