"""One place for forks and exits."""

from __future__ import annotations

import os

import pytest

from salesmachine_async import Agent, ThreadedAgent, _background, _process
from tests.support.carriers import Carrier


class Member:
    pass


def test_each_living_member_is_renewed_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member is renewed once for each fork, shown by the hook or the process id, and never in the parent."""
    renewed: list[object] = []
    member, gone = Member(), Member()
    for each in (member, gone):
        _process.watch(each, renewed.append)
    del gone, each
    assert _process.living(Member) == [member]
    _process.check_fork()
    assert renewed == []
    watched = [pair for pair in _process._members() if isinstance(pair[0], Member)]
    monkeypatch.setattr(_process, "_members", lambda: watched)
    monkeypatch.setattr(_process, "_pid", os.getpid() + 1)
    _process.check_fork()
    _process.check_fork()
    assert renewed == [member]


def test_what_is_inherited_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting it would touch what the parent uses."""
    monkeypatch.setattr(_process, "_inherited", [])
    _process.keep(thing := Member())
    assert _process._inherited == [thing]


def test_an_end_that_fails_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last one registered comes first."""
    done: list[int] = []

    def fail() -> None:
        raise RuntimeError("SECRET")

    monkeypatch.setattr(_process, "_exits", [])
    monkeypatch.setattr(_process, "_over", False)
    for function in (lambda: done.append(1), fail, lambda: done.append(2)):
        _process.at_exit(function)
    _process._end()
    assert done == [2, 1]
    assert _process.after_exit()
    assert "an agent could not be ended: RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


def test_all_agents_with_a_thread_can_be_flushed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pytest plug-in does; an agent that cannot be is logged, and the next one is flushed."""
    monkeypatch.setattr(_background, "_running", set())
    agents = [ThreadedAgent(transport=Carrier()) for _ in range(2)]
    for agent in agents:
        agent.track("u", "e")
    monkeypatch.setattr(agents[0]._agent, "flush", None)
    _background.flush_all(5.0)
    assert agents[1].stats().delivered == 1
    assert "an agent could not be flushed: TypeError" in caplog.text
    for agent in agents:
        agent.close()


def test_an_agent_that_is_off_starts_no_thread() -> None:
    """Every call is True, and nothing is queued."""
    agent = ThreadedAgent(enabled=False)
    assert agent.track("u", "e")
    assert agent._background.process == 0
    assert agent.stats().accepted == 0
    assert agent.close().ok
    assert Agent(enabled=False).track("u", "e")
