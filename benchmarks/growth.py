"""
Does a call or a delivery cost more with a million messages queued than with a thousand?

    python -m benchmarks.growth [--quick] [--json]

Two agents in one process, one with a short queue and one with a long one, are measured block by block in turn.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from benchmarks._cli import Options, main
from benchmarks._measure import KEEP_HEAP, block_of_tracks, require, warm_heap
from benchmarks._messages import EVENT, SMALL, contact_uids
from benchmarks._result import Bar, Result, Table
from benchmarks._worker import Worker

QUESTION: Final = "does a call or a delivery cost more with 1 M messages queued than with 1 k?"
METHOD: Final = (
    "Two agents in one process, on a transport without a network that first holds everything back: one gets 1,000 "
    "messages, the other a million. Then both get blocks of 1,000 calls in turn (the short queue is emptied back to a "
    "thousand between them), then both deliver batches in turn. Medians of the blocks; the ratio is the median of the "
    "ratios of neighbours. The garbage collector runs as usual. The process's heap has been used before: what the "
    "system takes for handing out memory belongs to every queue that grows, and the short one is emptied."
)
SHORT: Final = 1000
BLOCK: Final = 1000
# What a message takes on the wire, about.
MESSAGE_BYTES: Final = 310


def measure(long: int, blocks: int) -> dict[str, list[list[float]]]:
    """In the agent's process: nanoseconds per message, short and long queue, of calls and of deliveries."""
    return asyncio.run(_measure(long, blocks))


async def _measure(long: int, blocks: int) -> dict[str, list[list[float]]]:
    from benchmarks._agents import CountingCarrier, roomy_agent  # the agent is imported in its own process only

    warm_heap(2 * MESSAGE_BYTES * (long + 2 * blocks * BLOCK))
    carriers = [CountingCarrier(held=True), CountingCarrier(held=True)]
    agents = [roomy_agent(transport=carrier) for carrier in carriers]
    uids = contact_uids(BLOCK)
    for agent, depth in zip(agents, (SHORT, long), strict=True):
        await agent.start()
        for _ in range(depth // BLOCK):
            block_of_tracks(agent.track, uids, EVENT, SMALL)
    calls: list[list[float]] = [[], []]
    for _ in range(blocks):
        for which, agent in enumerate(agents):
            calls[which].append(block_of_tracks(agent.track, uids, EVENT, SMALL) / BLOCK)
        await _empty_to(agents[0], carriers[0], SHORT)
    deliveries: list[list[float]] = [[], []]
    for _ in range(blocks):
        for which in range(len(agents)):
            deliveries[which].append(await _deliver(carriers[which], BLOCK))
        block_of_tracks(agents[0].track, uids, EVENT, SMALL)  # keep the short queue at its length
    for agent, carrier in zip(agents, carriers, strict=True):
        carrier.open.set()
        report = await agent.aclose(60.0)
        require("growth", "messages delivered", agent.stats().accepted, report.delivered)
        require("growth", "messages that the transport has got", agent.stats().accepted, carrier.delivered)
    return {"calls": calls, "deliveries": deliveries}


async def _empty_to(agent: Any, carrier: Any, left: int) -> None:
    """Let the agent deliver until no more than *left* messages wait."""
    carrier.open.set()
    while agent.stats().queued > left:  # noqa: ASYNC110 (every turn is wanted)
        await asyncio.sleep(0)
    carrier.open.clear()


async def _deliver(carrier: Any, messages: int) -> float:
    """Let the agent deliver *messages*; nanoseconds for each."""
    before: int = carrier.delivered
    start = time.perf_counter_ns()
    carrier.open.set()
    while carrier.delivered < before + messages:  # noqa: ASYNC110 (every turn is wanted)
        await asyncio.sleep(0)
    carrier.open.clear()
    delivered: int = carrier.delivered - before
    return (time.perf_counter_ns() - start) / delivered


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("growth", QUESTION, METHOD)
    long = options.count(1_000_000, 300_000)
    with Worker("salesmachine-async", env=KEEP_HEAP) as worker:
        measured = worker.call("growth:measure", long=long, blocks=options.pick(200, 40))
    rows = list(_rows(measured))
    columns = ["what", "1 k, ns", f"{long:,}, ns", "ratio"]
    result.tables.append(Table("One message, at two lengths of the queue", columns, [*rows]))
    for what, _, _, ratio in rows:
        result.bars.append(Bar(f"{what} with {long:,} queued over 1 k", ratio, 1.1, unit=" x"))
    result.data.update({"long": long, **{what: ratio for what, _, _, ratio in rows}})
    return result


def _rows(measured: dict[str, list[list[float]]]) -> Iterator[tuple[str, float, float, float]]:
    for key, what in (("calls", "a call"), ("deliveries", "a delivery, network aside")):
        short, long = measured[key]
        yield what, median(short), median(long), median(far / near for near, far in zip(short, long, strict=True))


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
