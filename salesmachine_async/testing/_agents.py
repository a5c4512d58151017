"""Access to all agents of the process, which a test that waits for messages cannot reach otherwise."""

from __future__ import annotations

import asyncio

from salesmachine_async import _process
from salesmachine_async.agent import Agent

__all__ = ["describe_held", "expedite"]


def expedite() -> None:
    """Make all agents send their queued messages now, so that a test does not wait for the end of their linger."""
    for agent in _process.living(Agent):
        loop = agent._flusher._loop  # pyright: ignore[reportPrivateUsage]
        if loop is not None and loop.is_running():
            flush = agent.flush(0)
            try:
                asyncio.run_coroutine_threadsafe(flush, loop)
            except RuntimeError:  # the loop was closed since the check
                flush.close()


def describe_held() -> str:
    """Return a note on the messages that agents still hold, the usual reason of a missing one; empty without any."""
    held = sum(stats.queued + stats.in_flight for stats in (agent.stats() for agent in _process.living(Agent)))
    if not held:
        return ""
    return (
        f"\n\nAgents of this process still hold {held} message{'s' * (held > 1)}. "
        "Check that the event loop of each agent is running and that the agent sends to this sandbox."
    )
