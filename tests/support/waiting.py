"""Waiting for what is going to happen, however busy the machine is; bounded by the test's own time-out."""

import asyncio
from collections.abc import Callable

from salesmachine_async import Agent, State


async def until(true: Callable[[], object]) -> None:
    """Return once *true* returns something true."""
    while not true():
        await asyncio.sleep(0.001)


def held_back(agent: Agent) -> bool:
    """Return whether the agent is paused or parked."""
    return agent.stats().state in (State.PAUSED, State.PARKED)
