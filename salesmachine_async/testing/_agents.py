"""The agents of the process under test, which a waiting test has no hold of."""

from __future__ import annotations

import asyncio

from salesmachine_async import _process
from salesmachine_async.agent import Agent

__all__ = ["hurry", "told_of_held"]


def hurry() -> None:
    """Have all agents send what they hold now: their linger is for traffic, and a test would wait it out."""
    for agent in _process.living(Agent):
        loop = agent._flusher._loop  # pyright: ignore[reportPrivateUsage]
        if loop is not None and loop.is_running():
            flush = agent.flush(0)
            try:
                asyncio.run_coroutine_threadsafe(flush, loop)
            except RuntimeError:  # it was closed in between
                flush.close()


def told_of_held() -> str:
    """Tell of what is still on its way, which is the usual reason that a message is missing; empty if nothing is."""
    held = sum(stats.queued + stats.in_flight for stats in (agent.stats() for agent in _process.living(Agent)))
    if not held:
        return ""
    return (
        f"\n\nAgents of this process still hold {held} message{'s' * (held > 1)}. "
        "Does the event loop run that they were started on? Do they send here?"
    )
