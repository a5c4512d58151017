"""
What does a call cost?

    python -m benchmarks.track_cost [--quick] [--json]

The agent with its default options beside the floor (`_floor`), block by block in turn in one process; then the peers,
each in a process of its own, round by round in turn.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import orjson

from benchmarks._cli import Options, main
from benchmarks._contestants import CONTESTANTS, KEEPERS, Contestant, closed, described, installed
from benchmarks._floor import Floor, message
from benchmarks._measure import (
    KEEP_HEAP,
    block_of_contacts,
    block_of_tracks,
    require,
    single_contacts,
    single_tracks,
    spread,
    timer_cost,
    warm_heap,
)
from benchmarks._messages import EVENT, PARAMS, SMALL, contact_uids, numbered
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink
from benchmarks._worker import Worker

QUESTION: Final = "what does a call cost?"
METHOD: Final = (
    "Blocks of 1,000 calls (delivering: 100, and the event loop turns after each) of the floor and of the agent in "
    "turn, in one process, by the CPU time of the calling thread, which a busy machine disturbs least; the ratio is "
    "the median of the ratios of neighbouring blocks. Both keep all they are given; both are new in every round, "
    "and so is their process, with another hash seed; its heap has been used before, so that the system's handing "
    "out of memory is not measured. p50, p99 and max are of single calls by the wall clock, so that max shows also "
    "when the system took the processor away, less the timer's own cost. The floor builds the message's dict, "
    "encodes it once with orjson and appends it to a bytearray; the bare floor has the dict ready and no function "
    "call either."
)
# Calls in a block.
BLOCK: Final = 1000
TURN: Final = 100
PEER_BLOCK: Final = 500
# What a message takes on the wire, about.
SMALL_BYTES: Final = 310
LARGE_BYTES: Final = 2100


@dataclass(frozen=True, slots=True)
class Case:
    """
    One way to call.

    Attributes:
        name: In the table.
        params: Which params.
        where: ``before start``, ``loop``, ``thread`` or ``delivering``.
        call: ``track`` or ``contact``.
    """

    name: str
    params: str
    where: str
    call: str = "track"


CASES: Final = (
    Case("track, small, from the loop", "small", "loop"),
    Case("track, small, before start", "small", "before start"),
    Case("track, small, from a thread", "small", "thread"),
    Case("track, small, while delivering", "small", "delivering"),
    Case("track, 2 KB, from the loop", "large", "loop"),
    Case("track, 2 KB, from a thread", "large", "thread"),
    Case("track, a Decimal, from the loop", "odd", "loop"),
    Case("contact, small, from the loop", "small", "loop", "contact"),
)


def agent_round(case: dict[str, str], messages: int, url: str | None) -> dict[str, Any]:
    """In the agent's process: time one round of a case, of the floor and of the agent."""
    return asyncio.run(_agent_round(Case(**case), messages, url))


async def _agent_round(case: Case, messages: int, url: str | None) -> dict[str, Any]:
    from benchmarks._agents import CountingCarrier  # the agent is imported in its own process only
    from salesmachine_async import Agent

    warm_heap(4 * messages * (LARGE_BYTES if case.params == "large" else SMALL_BYTES))
    # In the thread's case nothing is delivered before the end: the loop is woken for every batch, but does not work
    # against the calls. What that costs, `drain_rate` tells.
    carrier = CountingCarrier(held=case.where == "thread")
    delivering = case.where == "delivering"
    agent = Agent("token", "secret", base_url=url) if delivering else Agent("token", "secret", transport=carrier)
    if case.where != "before start":
        await agent.start()
    floor = Floor(str if case.params == "odd" else None)
    calls = (getattr(floor, case.call), getattr(agent, case.call))
    if delivering:
        timed = await _delivering(calls, messages)
    elif case.where == "thread":
        timed = await asyncio.to_thread(_rounds, case, calls, messages)
    else:
        timed = _rounds(case, calls, messages)
    carrier.open.set()
    report = await agent.aclose(30.0)
    stats = agent.stats()
    require(case.name, "messages accepted", messages, stats.accepted)
    require(case.name, "messages delivered", messages, report.delivered if delivering else carrier.delivered)
    return timed


def _rounds(case: Case, calls: tuple[Callable[..., object], ...], messages: int) -> dict[str, Any]:
    """Time two thirds of the messages in blocks, one third call by call; floor and agent in turn."""
    block, single = (block_of_tracks, single_tracks) if case.call == "track" else (block_of_contacts, single_contacts)
    params = PARAMS[case.params]
    size = min(BLOCK, messages // 3)
    blocks: list[list[float]] = [[], []]
    singles: list[list[int]] = [[], []]
    left = messages
    while left:
        uids = contact_uids(min(size, left))
        left -= len(uids)
        by_itself = len(singles[0]) * 2 < len(blocks[0]) * size
        for which, call in enumerate(calls):
            if by_itself:
                singles[which] += single(call, uids, EVENT, params)
            else:
                blocks[which].append(block(call, uids, EVENT, params) / len(uids))
    bare = bare_floor(size) if case.params == "small" and case.call == "track" else None
    return {"blocks": blocks, "singles": [spread(times) for times in singles], "bare": bare}


async def _delivering(calls: tuple[Callable[..., object], ...], messages: int) -> dict[str, Any]:
    """Time blocks of calls between which the event loop turns, so that the agent sends between them."""
    blocks: list[list[float]] = [[], []]
    for first in range(0, messages, TURN):
        numbers = range(first, min(first + TURN, messages))
        arguments = [(f"{100_000 + number}", EVENT, numbered(number)) for number in numbers]
        for which, call in enumerate(calls):
            start = time.thread_time_ns()
            for arguments_of_one in arguments:
                call(*arguments_of_one)
            blocks[which].append((time.thread_time_ns() - start) / len(arguments))
        await asyncio.sleep(0)
    return {"blocks": blocks, "singles": [None, None], "bare": None}


def bare_floor(count: int) -> float:
    """Time encoding a ready dict and appending it, inlined; nanoseconds per message."""
    ready, buffer, dumps = message("100000", EVENT, SMALL), bytearray(), orjson.dumps
    start = time.thread_time_ns()
    for _ in range(count):
        buffer += dumps(ready)
        buffer += b","
    return (time.thread_time_ns() - start) / count


def peer_round(name: str, messages: int) -> dict[str, float]:
    """In a peer's process: time one round; nanoseconds per call, in the median block and of single calls."""
    return asyncio.run(_peer_round(CONTESTANTS[name](), messages))


async def _peer_round(contestant: Contestant, messages: int) -> dict[str, float]:
    warm_heap(messages * LARGE_BYTES)
    contestant.open(None)
    uids = contact_uids(PEER_BLOCK)
    try:
        block_of_tracks(contestant.track, uids, EVENT, SMALL)  # to warm up
        blocks = [block_of_tracks(contestant.track, uids, EVENT, SMALL) for _ in range(messages // PEER_BLOCK)]
        singles = [time for _ in range(2) for time in single_tracks(contestant.track, uids, EVENT, SMALL)]
        return {"block": median(blocks) / PEER_BLOCK, **spread(singles)}
    finally:
        await closed(contestant)


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("track_cost", QUESTION, METHOD)
    with Sink() as sink:
        _ask_agent(options, sink, result)
    if options.peers:
        _ask_peers(options, result)
    return result


def _made_of(floor: float) -> str:
    """Say what the promises of a call cost by themselves."""
    with Worker("salesmachine-async", 1) as worker:
        parts: dict[str, float] = worker.call("_parts:parts")
    whole = sum(parts.values())
    return (
        "What a call does beside the floor, each part by itself in a loop, in ns: "
        + ", ".join(f"{name} {cost:.0f}" for name, cost in parts.items())
        + f"; together {whole:.0f}, which with the floor is {(floor + whole) / floor:.2f} x. The rest are the bounds, "
        "the time stamp, the sealing of every hundredth message, and caches that are less warm than in a loop."
    )


def _ask_agent(options: Options, sink: Sink, result: Result) -> None:
    """Measure the agent and the floor."""
    messages = options.count(60_000, 9000)
    rounds = options.pick(7, 3)
    timer = timer_cost()
    timed: dict[Case, list[dict[str, Any]]] = {case: [] for case in CASES}
    for seed in range(1, rounds + 1):
        with Worker("salesmachine-async", seed, KEEP_HEAP) as worker:
            for case, heard in timed.items():
                # Half as many of the large ones: with default options the queue holds 64 MiB.
                heard.append(_one_round(worker, case, messages // (2 if case.params == "large" else 1), sink))
    rows = {case: _summary(heard, timer) for case, heard in timed.items()}
    first = rows[CASES[0]]
    result.tables.append(_agent_table(rows))
    result.notes.append(
        f"{messages:,} messages a round, {rounds} rounds. The timer's own cost was {timer:.0f} ns and is taken off. "
        f"The bare floor: {first['bare']:.0f} ns, of which track() from the loop takes "
        f"{first['agent'] / first['bare']:.2f} times as much. Wire size of the small message: "
        f"{len(orjson.dumps(message('100000', EVENT, SMALL))) + 1} bytes, of the large: "
        f"{len(orjson.dumps(message('100000', EVENT, PARAMS['large']))) + 1}."
    )
    result.notes.append(_made_of(first["floor"]))
    result.bars += [
        Bar(f"{case.name}, over the floor", row["ratio"], 2.1, unit=" x")
        for case, row in rows.items()
        if case.call == "track" and case.params in ("small", "large") and case.where in ("loop", "thread")
    ]
    result.data["cases"] = {case.name: row for case, row in rows.items()}
    result.data["floor_ns"], result.data["track_ns"] = first["floor"], first["agent"]
    result.data["ratio"] = first["ratio"]


def _one_round(worker: Worker, case: Case, messages: int, sink: Sink) -> dict[str, Any]:
    sink.reset()
    as_dict = {"name": case.name, "params": case.params, "where": case.where, "call": case.call}
    heard: dict[str, Any] = worker.call("track_cost:agent_round", case=as_dict, messages=messages, url=sink.url)
    if case.where == "delivering":
        require(case.name, "different messages in the sink", messages, sink.tally()["unique"])
    return heard


def _summary(rounds: list[dict[str, Any]], timer: float) -> dict[str, Any]:
    floors = [time for heard in rounds for time in heard["blocks"][0]]
    agents = [time for heard in rounds for time in heard["blocks"][1]]
    summary: dict[str, Any] = {
        "floor": median(floors),
        "agent": median(agents),
        "ratio": median(agent / floor for agent, floor in zip(agents, floors, strict=True)),
        "bare": median(heard["bare"] for heard in rounds) if rounds[0]["bare"] else None,
    }
    for which, name in enumerate(("floor", "agent")):
        for key in ("p50", "p99", "max"):
            measured = [heard["singles"][which][key] for heard in rounds if heard["singles"][which]]
            summary[f"{name}_{key}"] = median(measured) - timer if measured else None
    return summary


def _agent_table(rows: dict[Case, dict[str, Any]]) -> Table:
    keys = ("floor", "agent", "ratio", "floor_p50", "agent_p50", "floor_p99", "agent_p99", "floor_max", "agent_max")
    columns = ["call", *(key.replace("_", " ") + ("" if key == "ratio" else ", ns") for key in keys)]
    return Table(
        "The agent with its default options, and the floor",
        columns,
        [[case.name, *(row[key] for key in keys)] for case, row in rows.items()],
    )


def _ask_peers(options: Options, result: Result) -> None:
    names, missing = installed(KEEPERS, quick=options.quick)
    result.notes += missing
    messages, rounds = max(PEER_BLOCK, options.count(5000, 2000)), options.pick(7, 3)
    timed: dict[str, list[dict[str, float]]] = {name: [] for name in ("salesmachine-async", *names)}
    for seed in range(1, rounds + 1):
        for name in timed:
            with Worker(name, seed, KEEP_HEAP) as worker:
                timed[name].append(worker.call("track_cost:peer_round", name=name, messages=messages))
    costs = {name: median(heard["block"] for heard in heards) for name, heards in timed.items()}
    agent_ns = costs["salesmachine-async"]
    timer = timer_cost()
    spreads = {
        name: [(median(heard[key] for heard in heards) - timer) / 1000 for key in ("p50", "p99", "max")]
        for name, heards in timed.items()
    }
    result.tables.append(
        Table(
            "Beside peers: track with small params, delivery idle",
            ["client", "settings", "µs per call", "times the agent", "p50, µs", "p99, µs", "max, µs"],
            [
                [described(name), CONTESTANTS[name].settings, cost / 1000, cost / agent_ns, *spreads[name]]
                for name, cost in sorted(costs.items(), key=lambda item: item[1])
            ],
        )
    )
    result.notes.append(
        f"Peers: {messages:,} calls a round in blocks and {2 * PEER_BLOCK:,} one by one, {rounds} rounds. Their "
        "threads stand still during that time: PostHog's with threads, Segment and Rudder then even skip their queue, "
        "which favours them."
    )
    for name, times in (("salesmachine-python", 6.0), ("AsyncPosthog", 30.0)):
        if name in costs:
            bar = Bar(f"times cheaper than {name}", costs[name] / agent_ns, times, at_most=False, unit=" x")
            result.bars.append(bar)
    result.data["peers_ns"] = costs


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
