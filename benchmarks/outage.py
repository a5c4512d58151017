"""
What does an outage of the server cost, and how fast is it over?

    python -m benchmarks.outage [--quick] [--json]

A steady producer goes on for as long as the server refuses, far beyond what the queue holds; then the server heals.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from typing import Any, Final

from benchmarks._cli import Options, main
from benchmarks._contestants import CONTESTANTS, closed, described, installed
from benchmarks._loop import LagMeter, produce
from benchmarks._measure import require, resident_bytes
from benchmarks._messages import EVENT, numbered
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink, ask_sink
from benchmarks._worker import Worker, WorkerFailed
from salesmachine_async import Batching

QUESTION: Final = "what does an outage cost in memory and lag, and how fast is it over?"
METHOD: Final = (
    "20,000 calls a second go on while the sink answers 503, until the queue is full and beyond; then the sink heals, "
    "and everything accepted and not displaced must arrive. In the outage the queue and the resident memory are "
    "sampled and the event loop is watched (`loop_lag` says how). Recovery: from the healing to the first delivery, "
    "and until the queue is empty. Peers: 200 calls a second over the same outage; what of it arrives."
)
RATE: Final = 20_000.0
PEER_RATE: Final = 200.0
SAMPLE_SECONDS: Final = 0.05


def agent_outage(port: int, seconds: float, overflow: str, bound: int, cap: float) -> dict[str, Any]:
    """In the agent's process: live through one outage."""
    return asyncio.run(_agent_outage(port, seconds, overflow, bound, cap))


async def _agent_outage(port: int, seconds: float, overflow: str, bound: int, cap: float) -> dict[str, Any]:
    from salesmachine_async import Agent, Overflow, QueueLimits, Retry

    limits = QueueLimits(max_messages=bound, overflow=Overflow(overflow))
    agent = Agent("token", "secret", base_url=f"http://127.0.0.1:{port}", queue=limits, retry=Retry(wait_max=cap))
    await agent.start()
    agent.track("first", EVENT, numbered(0))
    await agent.flush()
    await asyncio.to_thread(ask_sink, port, "behave?status=503")
    before = resident_bytes() or 0
    watcher = asyncio.create_task(_watch(agent))
    meter = LagMeter()
    made = await produce(lambda number: agent.track(f"{number}", EVENT, numbered(number + 1)), RATE, seconds)
    waits = meter.stop()
    watcher.cancel()
    grown = (resident_bytes() or 0) - before
    (most,) = await asyncio.gather(watcher)
    await asyncio.to_thread(ask_sink, port, "behave?status=200")
    healed = time.monotonic()
    report = await agent.flush()
    emptied = time.monotonic() - healed
    stats = agent.stats()
    await agent.aclose()
    require("outage", "calls with an outcome", made + 1, stats.accepted + sum(stats.dropped.values()))
    require("outage", "accepted messages with an outcome", stats.accepted, report.delivered + sum(report.lost.values()))
    return {
        "made": made,
        "delivered": report.delivered,
        "refused": sum(stats.dropped.values()),
        "displaced": sum(report.lost.values()),
        "most_messages": most["messages"],
        "most_bytes": most["bytes"],
        "grown": grown,
        "waits": waits,
        "healed": healed,
        "emptied": emptied,
    }


async def _watch(agent: Any) -> dict[str, int]:
    """Return, when cancelled, how much the queue has held at most."""
    most = {"messages": 0, "bytes": 0}
    try:
        while True:
            stats = agent.stats()
            most["messages"] = max(most["messages"], stats.queued + stats.in_flight)
            most["bytes"] = max(most["bytes"], stats.queued_bytes)
            await asyncio.sleep(SAMPLE_SECONDS)
    except asyncio.CancelledError:
        return most


def peer_outage(name: str, port: int, seconds: float) -> int:
    """In a peer's process: live through one outage; returns how many calls were made."""
    return asyncio.run(_peer_outage(name, port, seconds))


async def _peer_outage(name: str, port: int, seconds: float) -> int:
    contestant = CONTESTANTS[name]()
    contestant.open(f"http://127.0.0.1:{port}")
    made = await produce(
        lambda number: contestant.track(f"{number}", EVENT, numbered(number)), PEER_RATE, seconds, slice_seconds=0.01
    )
    await asyncio.to_thread(ask_sink, port, "behave?status=200")
    await contestant.flush()
    await closed(contestant)
    return made


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("outage", QUESTION, METHOD)
    seconds, cap = options.pick(30.0, 1.5), options.pick(5.0, 0.5)
    bound = options.count(100_000, 10_000)
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        for overflow in ("drop_newest", "drop_oldest"):
            with Worker("agent") as worker:
                _agent(result, worker, sink, seconds, overflow, bound, cap)
        if options.peers and options.quick:
            result.notes.append("Quick: peers skipped.")
        elif options.peers:
            _ask_peers(result, stack, seconds)
    result.tables.insert(0, _agent_table(result))
    result.notes.append(
        f"An outage of {seconds:g} s, a queue of {bound:,} messages (default: 100,000), "
        f"Retry(wait_max={cap:g}) (default: 30). Resident memory holds the encoded queue and what the interpreter has "
        "not given back."
    )
    return result


def _agent(result: Result, worker: Worker, sink: Sink, seconds: float, overflow: str, bound: int, cap: float) -> None:
    sink.reset()
    measured = worker.call(
        "outage:agent_outage",
        port=sink.port,
        seconds=seconds,
        overflow=overflow,
        bound=bound,
        cap=cap,
        timeout=seconds * 2 + 60,
    )
    tally = sink.tally()
    require(overflow, "different messages in the sink", measured["delivered"], tally["unique"])
    measured["first"] = min(when for when in tally["times"] if when > measured["healed"]) - measured["healed"]
    measured["attempts"] = tally["refused"]
    result.data[overflow] = measured
    # While DROP_OLDEST makes room for one batch, calls may fill another one.
    room = bound + (Batching().max_messages if overflow == "drop_oldest" else 0)
    result.bars += [
        Bar(f"{overflow}: most messages held, over the bound", measured["most_messages"] / room, 1.0, unit=" x"),
        Bar(
            f"{overflow}: first delivery after healing, over the backoff cap", measured["first"] / cap, 1.05, unit=" x"
        ),
    ]


def _agent_table(result: Result) -> Table:
    columns = [
        "overflow",
        "calls",
        "refused",
        "displaced",
        "delivered",
        "most held",
        "most held, MB",
        "resident grown, MB",
        "requests refused",
        "busy p99, ms",
        "busy max, ms",
        "first delivery, s",
        "empty, s",
    ]
    rows: list[list[str | float | None]] = [
        [
            overflow,
            measured["made"],
            measured["refused"],
            measured["displaced"],
            measured["delivered"],
            measured["most_messages"],
            measured["most_bytes"] / 1e6,
            measured["grown"] / 1e6,
            measured["attempts"],
            measured["waits"]["busy"]["p99"],
            measured["waits"]["busy"]["max"],
            measured["first"],
            measured["emptied"],
        ]
        for overflow, measured in result.data.items()
    ]
    return Table("The agent at 20,000 calls a second", columns, [*rows])


def _ask_peers(result: Result, stack: ExitStack, seconds: float) -> None:
    """All at once, each with a sink of its own: waiting is most of what they do."""
    names, missing = installed(("salesmachine-python", "AsyncPosthog", "posthog (threads)", "segment", "rudder"))
    result.notes += missing
    names.insert(0, "salesmachine-async")
    sinks = {name: stack.enter_context(Sink()) for name in names}
    workers = {name: stack.enter_context(Worker(name)) for name in names}
    for name in names:
        sinks[name].behave(status=503)
        workers[name].begin("outage:peer_outage", name=name, port=sinks[name].port, seconds=seconds)
    deadline = time.monotonic() + seconds + 60.0
    rows: list[list[str | float | None]] = []
    for name in names:
        try:
            made = workers[name].result("peer_outage", max(1.0, deadline - time.monotonic()))
            ending = "flushed"
        except WorkerFailed:
            made, ending = int(PEER_RATE * seconds), "still waiting 60 s after the healing, ended"
        arrived = sinks[name].tally()["unique"]
        if name == "salesmachine-async":
            require("outage, beside peers", "different messages in the sink", made, arrived)
        rows.append([described(name), made, arrived, 100 * arrived / made, ending])
    columns = ["client", "calls", "arrived", "%", "end"]
    result.tables.append(Table(f"Beside peers: what of {seconds:g} s of outage arrives in the end", columns, [*rows]))


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
