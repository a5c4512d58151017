"""
A worker of the fleet: tracks at a steady rate, and publishes to the engine or sends to the sandbox.

It reads one order from stdin and writes JSON lines to stdout: how far it has tracked, and what `Agent.sync` confirmed.
"""

import asyncio
import dataclasses
import time
from typing import Any

from salesmachine_async import Agent, Batching, HttpTransport, Retry, Timeouts
from salesmachine_async.cli.demo.orders import emit, obey

EVENT = "job_done"
CONTACTS = 10
SLICE_SECONDS = 0.02
SYNC_SECONDS = 0.25
# Small batches, as those of a fleet of hundreds of processes.
BATCHING = Batching(max_messages=10, linger=0.2)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetOrder:
    """
    Order for a worker.

    Attributes:
        worker: Its number; it tracks for contacts of its own.
        first: The number of its first call.
        rate: Calls a second.
        seconds: How long it tracks.
        close_seconds: How long it may take to hand over the rest.
        engine: The URL of the engine; None to send to the sandbox.
        name: The name of the queue.
        url: The URL of the sandbox.
        token: The token for it.
        spool: The path of its spool; empty for none.
    """

    worker: int
    first: int
    rate: int
    seconds: float
    close_seconds: float
    engine: str | None
    name: str
    url: str
    token: str
    spool: str


async def work(order: FleetOrder) -> None:
    """Carry out an order."""
    agent = Agent(
        enabled=True,
        transport=_transport(order),
        spool=order.spool,
        batching=BATCHING,
        retry=Retry(wait_max=1.0),
        concurrency=1,
        timeouts=Timeouts(close=order.close_seconds),
    )
    number = order.first
    async with agent:
        begun = time.monotonic()
        syncing = asyncio.create_task(_sync(agent, number, order))
        while (elapsed := time.monotonic() - begun) < order.seconds:
            while number < order.first + elapsed * order.rate:
                agent.track(f"{order.worker}-{number % CONTACTS}", EVENT, {"n": number, "worker": order.worker})
                number += 1
            emit({"tracked": number})
            if syncing.done():
                syncing = asyncio.create_task(_sync(agent, number, order, SYNC_SECONDS))
            await asyncio.sleep(SLICE_SECONDS)
        await syncing
        await _sync(agent, number, order)
    report = await agent.aclose()
    emit({"ended": number, "recovered": agent.stats().recovered, "kept": report.kept})


def _transport(order: FleetOrder) -> Any:
    if order.engine is None:
        return HttpTransport(order.token, base_url=order.url)
    from salesmachine_async.engines.redis import RedisTransport  # noqa: PLC0415 - needs an extra

    return RedisTransport(order.engine, name=order.name, partitions=8)


async def _sync(agent: Agent, number: int, order: FleetOrder, wait: float = 0.0) -> None:
    """Confirm the calls before *number*, if the worker has a spool."""
    if order.spool:
        await asyncio.sleep(wait)
        await agent.sync()
        emit({"synced": number})


if __name__ == "__main__":
    obey(FleetOrder, work)
