"""Agents and transports for benchmarks that need no network. Imported only in the agent's own process."""

from __future__ import annotations

import asyncio
from typing import Any

from salesmachine_async import Agent, Batch, Batching, Outcome, QueueLimits, Verdict

SUCCESS = Outcome(verdict=Verdict.DELIVERED, status=201)


class CountingCarrier:
    """
    A transport without a network: takes everything at once, and counts it.

    Attributes:
        delivered: Messages taken so far.
        open: While it is not set, requests wait.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.delivered = 0
        self.open = asyncio.Event()
        if not held:
            self.open.set()

    async def send(self, batch: Batch) -> Outcome:
        # A real request lets the event loop turn too.
        await asyncio.sleep(0)
        while not self.open.is_set():
            await self.open.wait()
        self.delivered += batch.count
        return SUCCESS

    async def aclose(self) -> None:
        pass


def roomy_agent(*, max_messages: int = 2_000_000, **arguments: Any) -> Agent:
    """Make an agent that does not refuse: with room for so many messages."""
    return Agent(
        "token",
        "secret",
        queue=QueueLimits(max_messages=max_messages, max_bytes=2**31),
        batching=arguments.pop("batching", Batching()),
        **arguments,
    )
