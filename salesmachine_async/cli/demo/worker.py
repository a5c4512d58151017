"""
A process with a spool, which the demo kills, and the one that comes after it.

It reads one order from stdin and writes JSON lines to stdout: each call with its time, and what `Agent.sync` confirmed.
The one that comes after tracks a last event, which waits for everything that was recovered, and reports.
"""

import asyncio
import dataclasses
import time

from salesmachine_async import Agent, HttpTransport, Retry
from salesmachine_async.cli.demo.orders import emit, obey

CONTACT = "worker"
EVENT = "job_done"
# The last event of the process that comes after.
LAST = -1
CALLS_PER_SLICE = 2
SLICE_SECONDS = 0.001
SYNC_SECONDS = 0.25
FLUSH_SECONDS = 15.0


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerOrder:
    """
    What a worker is to do.

    Attributes:
        url: The server.
        token: The token.
        spool: The path of the spool.
        recover: Whether it comes after another one, and only delivers what that one left.
    """

    url: str
    token: str
    spool: str
    recover: bool


async def work(order: WorkerOrder) -> None:
    """Carry out an order; one without `recover` never ends."""
    agent = Agent(
        order.token,
        base_url=order.url,
        enabled=True,
        spool=order.spool,
        retry=Retry(wait_max=1.0),
        transport=HttpTransport(order.token, base_url=order.url),
    )
    async with agent:
        if order.recover:
            await _deliver(agent)
        else:
            await _track(agent)


async def _track(agent: Agent) -> None:
    number, due = 0, 0.0
    syncing = asyncio.create_task(_sync(agent, 0))
    while True:
        for _ in range(CALLS_PER_SLICE):
            called_at = time.monotonic()
            agent.track(CONTACT, EVENT, {"n": number})
            emit({"n": number, "at": called_at})
            number += 1
        if syncing.done() and time.monotonic() >= due:
            await syncing
            due = time.monotonic() + SYNC_SECONDS
            syncing = asyncio.create_task(_sync(agent, number))
        await asyncio.sleep(SLICE_SECONDS)


async def _sync(agent: Agent, number: int) -> None:
    await agent.sync()
    emit({"synced": number})


async def _deliver(agent: Agent) -> None:
    agent.track(CONTACT, EVENT, {"n": LAST})
    report = await agent.flush(FLUSH_SECONDS)
    emit({"recovered": agent.stats().recovered, "delivered": report.delivered, "ok": report.ok})


if __name__ == "__main__":
    obey(WorkerOrder, work)
