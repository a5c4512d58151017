"""
How fast do messages get from the call to confirmed delivery, and at what cost?

    python -m benchmarks.drain_rate [--quick] [--json]

The agent with several batch sizes, concurrency and event loops; the floor: the same bytes, encoded once and posted by
a bare aiohttp loop; the peers. All deliver to the same sink, one after the other in turn.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import aiohttp
import orjson

from benchmarks._cli import Options, main
from benchmarks._contestants import CONTESTANTS, SalesmachineAsync, closed, described, installed
from benchmarks._floor import message
from benchmarks._machine import version
from benchmarks._measure import cpu_seconds, require
from benchmarks._messages import EVENT, numbered
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink
from benchmarks._worker import Worker

QUESTION: Final = "how many messages a second get from the call to confirmed delivery, and what does each cost?"
METHOD: Final = (
    "Each run makes a client, tracks messages with different params as fast as it can, lets the event loop turn after "
    "every 100 calls where the client delivers on it (the floor: at every request), and waits until everything is "
    "confirmed; the clock and the CPU time of the whole process (all threads) run from the first call to that moment. "
    "The sink counts the different messages. Runs take turns, in a new process each round, each after a short one "
    "that is not measured; the table has medians. The floor builds and encodes the same messages once, joins as many "
    "as go in a batch and posts them one request after the other with a bare aiohttp session: no limits, no ids, no "
    "retry, nothing for other threads."
)
TURN: Final = 100
# Messages of a run before the measured one, in the same process.
WARM_UP: Final = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """
    Who runs how.

    Attributes:
        who: A contestant, or ``floor``.
        batch: Messages in a request.
        concurrency: Requests at once; only the agent and the floor have them.
        loop: ``asyncio`` or ``uvloop``.
    """

    who: str
    batch: int = 100
    concurrency: int = 1
    loop: str = "asyncio"

    @property
    def label(self) -> str:
        """Its name in tables."""
        return (
            f"{self.who} | {self.batch} a batch | {self.concurrency} sender{'s' * (self.concurrency > 1)} | {self.loop}"
        )


def one_run(run: dict[str, Any], messages: int, url: str) -> dict[str, float]:
    """In the contestant's process: deliver *messages*; seconds and CPU seconds."""
    this = Run(**run)
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if this.loop == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    deliver = _floor if this.who == "floor" else _client
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(deliver(this, messages, url))


class _Clock:
    """Seconds, and CPU seconds of the whole process, since it was made."""

    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), cpu_seconds()

    def figures(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self._started, "cpu": cpu_seconds() - self._cpu}


async def _client(run: Run, messages: int, url: str) -> dict[str, float]:
    contestant = CONTESTANTS[run.who]()
    if isinstance(contestant, SalesmachineAsync):
        contestant.open(url, run.batch, run.concurrency)
        await contestant.agent.start()
    else:
        contestant.open(url, run.batch)
    track = contestant.track
    clock = _Clock()
    for first in range(0, messages, TURN):
        for number in range(first, min(first + TURN, messages)):
            track(f"{number}", EVENT, numbered(number))
        if contestant.asynchronous:
            await asyncio.sleep(0)
    await contestant.flush()
    figures = clock.figures()
    await closed(contestant)
    return figures


async def _floor(run: Run, messages: int, url: str) -> dict[str, float]:
    session = aiohttp.ClientSession(headers={"Content-Type": "application/json"})
    url += "/v1/batch"
    dumps = orjson.dumps

    async def sender(index: int) -> None:
        for first in range(index * run.batch, messages, run.concurrency * run.batch):
            buffer = bytearray(b"[")
            for number in range(first, min(first + run.batch, messages)):
                buffer += dumps(message(f"{number}", EVENT, numbered(number)))
                buffer += b","
            buffer[-1] = ord("]")
            async with session.post(url, data=bytes(buffer)) as response:
                await response.read()

    clock = _Clock()
    await asyncio.gather(*(sender(index) for index in range(run.concurrency)))
    figures = clock.figures()
    await session.close()
    return figures


def calls_alone(messages: int) -> dict[str, float]:
    """Measure the calls without delivery: CPU microseconds a message, of the agent and of the floor's encoding."""
    from benchmarks._agents import roomy_agent

    agent = roomy_agent()
    track, dumps = agent.track, orjson.dumps
    figures: dict[str, float] = {}
    for _ in range(2):  # the second time counts
        started = time.process_time()
        for number in range(messages):
            track(f"{number}", EVENT, numbered(number))
        figures["agent"] = (time.process_time() - started) / messages * 1e6
        buffer = bytearray()
        started = time.process_time()
        for number in range(messages):
            buffer += dumps(message(f"{number}", EVENT, numbered(number)))
            buffer += b","
        figures["floor"] = (time.process_time() - started) / messages * 1e6
    asyncio.run(agent.aclose(0))
    return figures


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("drain_rate", QUESTION, METHOD)
    runs = _own_runs(options)
    if options.peers:
        names, missing = installed(quick=options.quick)
        result.notes += missing
        runs += [Run(name) for name in names]
    with Sink() as sink:
        measured = _take_turns(options, runs, sink)
        body = b"[" + b",".join([orjson.dumps(message("1", EVENT, numbered(1)))] * 100) + b"]"
        capacity = sink.capacity(body)
    result.tables += _tables(measured)
    result.bars += _bars(measured)
    result.notes.append(
        f"The sink answered {capacity:,.0f} requests of 100 messages a second on one bare socket, "
        f"{capacity * 100:,.0f} messages: that is the most that any client of one connection could reach here."
    )
    result.notes += _limits(measured, _calls_alone(options))
    result.data["runs"] = [{**asdict(run), **figures} for run, figures in measured.items()]
    result.data["sink_requests_per_second"] = capacity
    return result


def _calls_alone(options: Options) -> dict[str, float]:
    rounds = []
    for seed in range(1, options.pick(5, 2) + 1):
        with Worker("salesmachine-async", seed) as worker:
            rounds.append(worker.call("drain_rate:calls_alone", messages=options.count(50_000, 20_000)))
    return {who: median(one[who] for one in rounds) for who in ("agent", "floor")}


def _limits(measured: dict[Run, dict[str, float]], alone: dict[str, float]) -> list[str]:
    """Say how near to the bars anything could come that makes a call of its own for each message."""
    dearer = alone["agent"] - alone["floor"]
    floors = {batch: measured[Run("floor", batch)]["rate"] for batch in (100, 500)}
    shares = {batch: 1e6 / floor / (1e6 / floor + dearer) for batch, floor in floors.items()}
    notes = [
        f"The calls alone, undelivered: {alone['agent']:.2f} µs of CPU a message, the making of params included; the "
        f"floor's encoding {alone['floor']:.2f} µs. A client that cost nothing beyond the floor but these "
        f"{dearer:.2f} µs for what a call promises (checks, a copy of the params, id, time stamp, bounds), one after "
        "the other as the floor does it, would reach, of the floor: "
        + ", ".join(f"{share:.2f} at {batch} a batch" for batch, share in shares.items())
        + ". What is above that was won by encoding while a request is under way."
    ]
    floor = floors[100]
    notes += [
        f"At 100 a batch the floor itself delivers {floor / measured[Run(peer)]['rate']:.0f} times as fast as {peer}; "
        f"{shares[100]:.2f} of the floor is {shares[100] * floor / measured[Run(peer)]['rate']:.0f} times as fast."
        for peer in ("AsyncPosthog", "salesmachine-python")
        if Run(peer) in measured
    ]
    return notes


def _own_runs(options: Options) -> list[Run]:
    loops = ["asyncio", "uvloop"] if version("uvloop") else ["asyncio"]
    both = ("floor", "salesmachine-async")
    if options.quick:
        shapes = [(100, 1, "asyncio"), (500, 1, "asyncio"), (100, 1, loops[-1])]
        return [Run(who, *shape) for shape in dict.fromkeys(shapes) for who in both]
    return [
        Run(who, batch, concurrency, loop)
        for loop in loops
        for concurrency in (1, 4)
        for batch in (100, 500, 2000)
        for who in both
    ]


def _take_turns(options: Options, runs: list[Run], sink: Sink) -> dict[Run, dict[str, float]]:
    heard: dict[Run, list[dict[str, float]]] = {run: [] for run in runs}
    for seed in range(1, options.pick(5, 2) + 1):
        with ExitStack() as stack:
            workers = {who: stack.enter_context(Worker(who, seed)) for who in {run.who for run in runs}}
            for run in runs:
                heard[run].append(_one_round(options, run, workers[run.who], sink))
    return {
        run: {key: median(one[key] for one in rounds) for key in ("rate", "cpu_us", "messages")}
        for run, rounds in heard.items()
    }


def _one_round(options: Options, run: Run, worker: Worker, sink: Sink) -> dict[str, float]:
    # A run takes about a second or less: the fast ones have more to do.
    fast = run.who in ("floor", "salesmachine-async")
    messages = options.count(50_000, 20_000) if fast else options.count(5000, 1000)
    # Once unmeasured: what is imported at the first use, and what CPython learns of code that runs often.
    worker.call("drain_rate:one_run", run=asdict(run), messages=WARM_UP, url=sink.url)
    sink.reset()
    figures = worker.call("drain_rate:one_run", run=asdict(run), messages=messages, url=sink.url)
    tally = sink.tally()
    require(run.label, "different messages in the sink", messages, tally["unique"])
    require(run.label, "messages in the sink", messages, tally["messages"])
    return {"rate": messages / figures["seconds"], "cpu_us": figures["cpu"] / messages * 1e6, "messages": messages}


def _tables(measured: dict[Run, dict[str, float]]) -> list[Table]:
    own: list[Sequence[str | float | None]] = [
        [
            f"{run.loop}, {run.concurrency} sender{'s' * (run.concurrency > 1)}, {run.batch} a batch",
            measured[_floor_of(run)]["rate"],
            figures["rate"],
            figures["rate"] / measured[_floor_of(run)]["rate"],
            measured[_floor_of(run)]["cpu_us"],
            figures["cpu_us"],
        ]
        for run, figures in measured.items()
        if run.who == "salesmachine-async"
    ]
    columns = ["agent", "floor, msg/s", "agent, msg/s", "of the floor", "floor, CPU µs/msg", "agent, CPU µs/msg"]
    tables = [Table("The agent, and the floor", columns, own)]
    agent = measured[Run("salesmachine-async")]["rate"]
    peers = [(run, figures) for run, figures in measured.items() if run.who != "floor" and run == Run(run.who)]
    if len(peers) > 1:
        tables.append(
            Table(
                "Beside peers: 100 a batch, asyncio where they use it",
                ["client", "settings", "msg/s", "agent is x times", "CPU µs/msg"],
                [
                    [
                        described(run.who),
                        CONTESTANTS[run.who].settings,
                        figures["rate"],
                        agent / figures["rate"],
                        figures["cpu_us"],
                    ]
                    for run, figures in sorted(peers, key=lambda one: -one[1]["rate"])
                ],
            )
        )
    return tables


def _floor_of(run: Run) -> Run:
    return Run("floor", run.batch, run.concurrency, run.loop)


def _bars(measured: dict[Run, dict[str, float]]) -> list[Bar]:
    bars = []
    for batch in (100, 500):
        share = measured[Run("salesmachine-async", batch)]["rate"] / measured[Run("floor", batch)]["rate"]
        bars.append(Bar(f"share of the floor, {batch} a batch, one sender", share, 0.75, at_most=False))
    for peer, batch, times in (
        ("AsyncPosthog", 100, 80.0),
        ("salesmachine-python", 100, 4.0),
        ("salesmachine-python", 500, 8.0),
    ):
        if Run(peer) in measured:
            ratio = measured[Run("salesmachine-async", batch)]["rate"] / measured[Run(peer)]["rate"]
            bars.append(Bar(f"times {peer}, {batch} a batch, one sender", ratio, times, at_most=False, unit=" x"))
    return bars


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
