"""A recorder in place of the agent, and a sandbox behind a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from salesmachine_async._log import RateLimitedLogger
from salesmachine_async.integrations import _agent_lifespan, _environment
from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import Recorder, Workspace, serve


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def workspace(server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace to which the environment points."""
    workspace = Workspace(server)
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    return workspace


@pytest.fixture(autouse=True)
def no_fallback_agent_stays() -> Iterator[None]:
    """The agent of requests without a lifespan is the process's: here each test has its own."""
    yield
    for agent in _environment._fallback_agents.values():
        agent.close(1)
    _environment._fallback_agents.clear()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def fresh_troubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of one kind come once a minute: each test begins a new one."""
    for module in list(__import__("sys").modules.values()):
        if getattr(module, "guard_log", None) is _agent_lifespan.guard_log and module is not _agent_lifespan:
            monkeypatch.setattr(module, "guard_log", RateLimitedLogger())
    monkeypatch.setattr(_agent_lifespan, "guard_log", RateLimitedLogger())
