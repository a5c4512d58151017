"""Tests of the tools for tests, each with its own agents: simulated forks of other tests leave some behind."""

from __future__ import annotations

import weakref

import pytest

from salesmachine_async import Agent, _process


@pytest.fixture(autouse=True)
def own_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the agents that exist before the test."""
    others, living = weakref.WeakSet(_process.living(Agent)), _process.living
    monkeypatch.setattr(_process, "living", lambda kind: [each for each in living(kind) if each not in others])
