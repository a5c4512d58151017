"""
How long is the application's event loop held?

    python -m benchmarks.loop_lag [--quick] [--json]

Steady load, a burst, an outage and a close, with a meter on the loop; the same calls without a client are the
floor, because the processor is not ours alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from statistics import median
from typing import Any, Final

from benchmarks._cli import Options, main
from benchmarks._contestants import CONTESTANTS, Contestant, SalesmachineAsync, closed, described, installed
from benchmarks._loop import LagMeter, produce
from benchmarks._measure import require
from benchmarks._messages import EVENT, numbered
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink, ask_sink
from benchmarks._worker import Worker

QUESTION: Final = "how long is the application's event loop held?"
METHOD: Final = (
    "On a loop that never sleeps an event becomes due every 0.5 ms; its wait is how long it took the loop to get to "
    "it, in milliseconds. Wall: by the wall clock. Busy: by the CPU time of the loop's thread, which leaves out "
    "what the system gives to other processes, and threads. Steady: calls at a fixed rate in slices of a "
    "millisecond. Burst: all at once, 200 at a time, the loop turning between. Outage: steady, while the server "
    "answers 503; then it heals and everything must arrive. Close: aclose() of a full queue. No client: the same calls "
    "of a function that does nothing. Each in a process of its own, in turn; medians over the rounds."
)
AGENT: Final = "salesmachine-async"
UNTRACKED: Final = "no client"
SLICE: Final = 200


def scenario(who: str, kind: str, rate: float, seconds: float, messages: int, port: int) -> dict[str, Any]:
    """In the contestant's process: waits of one scenario, messages accepted, and calls a second, if it was steady."""
    return asyncio.run(_scenario(who, kind, rate, seconds, messages, port))


async def _scenario(who: str, kind: str, rate: float, seconds: float, messages: int, port: int) -> dict[str, Any]:
    contestant = await _opened(who, port)
    track = _track_nothing if contestant is None else contestant.track
    accepted = made = 0

    def call(number: int) -> None:
        nonlocal accepted
        accepted += track(f"{number}", EVENT, numbered(number)) is not False

    # Without a connection yet, the first request would be measured.
    call(0)
    if contestant is not None:
        await contestant.flush()
    if kind == "close":
        await _burst(call, messages)
    async with _weather(kind, port):
        meter = LagMeter()
        if kind in ("steady", "outage"):
            made = await produce(lambda number: call(number + 1), rate, seconds)
        elif kind == "burst":
            await _burst(call, messages)
        elif contestant is not None:
            await contestant.close()
        waits = meter.stop()
    if contestant is not None and kind != "close":
        await contestant.flush()
        await closed(contestant)
    return {"waits": waits, "accepted": accepted, "rate": made / seconds}


def _track_nothing(_uid: str, _event: str, _params: dict[str, Any]) -> bool:
    return True


async def _opened(who: str, port: int) -> Contestant | None:
    if who == UNTRACKED:
        return None
    contestant = CONTESTANTS[who]()
    if isinstance(contestant, SalesmachineAsync):
        # Its own bounds, so that an outage fills the queue; retries that fit a short outage.
        contestant.open(f"http://127.0.0.1:{port}", default_queue=True, retry_cap=1.0)
        await contestant.agent.start()
    else:
        contestant.open(f"http://127.0.0.1:{port}")
    return contestant


@asynccontextmanager
async def _weather(kind: str, port: int) -> AsyncIterator[None]:
    """Have the sink reject every request during an outage."""
    if kind == "outage":
        await asyncio.to_thread(ask_sink, port, "behave?status=503")
    yield
    if kind == "outage":
        await asyncio.to_thread(ask_sink, port, "behave?status=200")


async def _burst(call: Callable[[int], None], messages: int) -> None:
    for first in range(1, messages, SLICE):
        for number in range(first, min(first + SLICE, messages)):
            call(number)
        await asyncio.sleep(0)


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("loop_lag", QUESTION, METHOD)
    seconds = options.pick(3.0, 0.4)
    # Not more than the default queue holds.
    messages = min(options.count(100_000, 20_000), 100_000)
    runs: list[tuple[str, str, float]] = [
        (who, kind, 50_000.0) for kind in ("steady", "burst", "outage", "close") for who in (UNTRACKED, AGENT)
    ]
    if options.peers:
        peers = ("AsyncPosthog", "salesmachine-python", "segment", "posthog (threads)")
        names, missing = installed(peers, quick=options.quick)
        result.notes += missing
        runs += [(who, "steady", 2000.0) for who in (UNTRACKED, AGENT, *names)]
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        workers = {who: stack.enter_context(Worker(who)) for who in {who for who, _, _ in runs}}
        measured: dict[tuple[str, str, float], list[dict[str, Any]]] = {run: [] for run in runs}
        for _ in range(options.pick(3, 1)):
            for run in runs:
                measured[run].append(_one_run(run, workers[run[0]], sink, seconds, messages))
    result.tables += _tables(measured)
    steady = [one["waits"]["busy"] for one in measured[AGENT, "steady", 50_000.0]]
    reached = median(one["rate"] for one in measured[AGENT, "steady", 50_000.0])
    result.bars += [
        Bar("p99 while steady at 50 k/s, busy", median(waits["p99"] for waits in steady), 1.0, unit=" ms"),
        Bar("max while steady at 50 k/s, busy", median(waits["max"] for waits in steady), 10.0, unit=" ms"),
    ]
    result.notes.append(
        f"Steady at 50,000 calls a second came to {reached:,.0f}. "
        f"{seconds:g} s each, bursts and closes of {messages:,} messages (the default queue holds 100,000). The system "
        "takes the processor away now and then: a wait in the line without a client is not caused by a client."
    )
    result.data["waits_ms"] = {
        " | ".join(map(str, run)): [one["waits"] for one in ones] for run, ones in measured.items()
    }
    result.data["steady_rate"] = reached
    return result


def _one_run(run: tuple[str, str, float], worker: Worker, sink: Sink, seconds: float, messages: int) -> dict[str, Any]:
    who, kind, rate = run
    sink.reset()
    measured: dict[str, Any] = worker.call(
        "loop_lag:scenario", who=who, kind=kind, rate=rate, seconds=seconds, messages=messages, port=sink.port
    )
    if who != UNTRACKED:
        require(f"{who} | {kind}", "different messages in the sink", measured["accepted"], sink.tally()["unique"])
    return measured


def _tables(measured: dict[tuple[str, str, float], list[dict[str, Any]]]) -> list[Table]:
    tables = []
    columns = ["what", "client", *(f"{clock} {key}, ms" for clock in ("busy", "wall") for key in ("p50", "p99", "max"))]
    for rate, title in (
        (50_000.0, "Steady means 50,000 calls a second"),
        (2000.0, "Beside peers: 2,000 calls a second"),
    ):
        rows: list[Sequence[str | float | None]] = [
            [
                kind,
                who if who == UNTRACKED else described(who),
                *(
                    median(one["waits"][clock][key] for one in rounds)
                    for clock in ("busy", "wall")
                    for key in ("p50", "p99", "max")
                ),
            ]
            for (who, kind, its_rate), rounds in measured.items()
            if its_rate == rate
        ]
        if rows:
            tables.append(Table(title, columns, rows))
    return tables


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
