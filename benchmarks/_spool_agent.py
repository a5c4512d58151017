"""An agent with a spool, beside one without: calls, delivery, the event loop, and a large backlog."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from benchmarks._loop import LagMeter, produce
from benchmarks._measure import cpu_seconds, percentile, require, resident_bytes, timer_cost
from benchmarks._messages import EVENT, numbered
from benchmarks._sink import ask_sink
from benchmarks._spool_disk import MAX_BYTES, TOKEN, URL, folder

RATE: Final = 20_000.0
SLOW_SYNC_SECONDS: Final = 0.5


def steady(spooled: bool, seconds: float, port: int) -> dict[str, float]:
    """In the agent's process: nanoseconds of a call, and CPU microseconds of a message, at 20,000 calls a second."""
    with folder() as path:
        return asyncio.run(_steady(path if spooled else None, seconds, port))


async def _paced(call: Callable[[int], object], calls: int) -> None:
    """Make *calls* calls at `RATE`; what a busy machine has kept from being made is made up for in the next slice."""
    started = time.perf_counter()
    made = 0
    while made < calls:
        due = min(calls, int(RATE * (time.perf_counter() - started)))
        for number in range(made, due):
            call(number)
        made = due
        await asyncio.sleep(0.001)


async def _steady(path: str | None, seconds: float, port: int) -> dict[str, float]:
    from salesmachine_async import Agent

    agent = Agent("token", "secret", base_url=f"http://127.0.0.1:{port}", spool=path)
    await agent.start()
    times: list[int] = []
    note, clock, track = times.append, time.perf_counter_ns, agent.track

    def call(number: int) -> None:
        params = numbered(number)
        start = clock()
        track("100000", EVENT, params)
        note(clock() - start)

    # Imports, connections and the first segment are not measured.
    await _paced(lambda number: track("100000", EVENT, numbered(-number)), int(RATE / 2))
    await agent.flush()
    times.clear()
    await asyncio.to_thread(ask_sink, port, "reset")
    before = cpu_seconds()
    began = time.perf_counter()
    made = int(RATE * seconds)
    await _paced(call, made)
    took = time.perf_counter() - began
    report = await agent.flush()
    cpu = cpu_seconds() - before
    require("steady", "messages pending or lost", 0, report.pending + sum(report.lost.values()))
    spool = agent.stats().spool
    await agent.aclose()
    return {
        "made": made,
        "rate": made / took,
        "call_ns": median(times) - timer_cost(),
        "call_p99_ns": percentile(times, 0.99),
        "cpu_us": cpu / made * 1e6,
        "commits": spool.commits if spool else 0,
    }


def slow_disk(spooled: bool, seconds: float, port: int) -> dict[str, Any]:
    """In the agent's process: how long the loop is held while each fdatasync takes half a second."""
    from salesmachine_async._spool.files import Files

    def sync(*_: object) -> None:
        time.sleep(SLOW_SYNC_SECONDS)

    files: Any = Files
    files.sync = sync
    with folder() as path:
        return asyncio.run(_slow_disk(path if spooled else None, seconds, port))


async def _slow_disk(path: str | None, seconds: float, port: int) -> dict[str, Any]:
    from salesmachine_async import Agent, Retry

    agent = Agent("token", "secret", base_url=f"http://127.0.0.1:{port}", spool=path, retry=Retry(wait_max=1.0))
    await agent.start()
    agent.track("first", EVENT, numbered(0))
    await agent.flush()
    # In an outage everything is written.
    await asyncio.to_thread(ask_sink, port, "behave?status=503")
    meter = LagMeter()
    made = await produce(lambda number: agent.track(f"{number}", EVENT, numbered(number + 1)), RATE, seconds)
    waits = meter.stop()
    await asyncio.to_thread(ask_sink, port, "behave?status=200")
    report = await agent.flush(60.0)
    require("slow disk", "accepted messages delivered", made + 1, report.delivered)
    spool = agent.stats().spool
    await agent.aclose()
    return {"waits": waits, "made": made, "commits": spool.commits if spool else 0}


class _OrderedCarrier:
    """A transport without a network that takes everything, and checks the numbers of `write_backlog`."""

    def __init__(self, destination: int) -> None:
        self.destination = destination
        self.delivered = 0
        self.in_order = True

    async def send(self, batch: Any) -> Any:
        from benchmarks._agents import SUCCESS

        await asyncio.sleep(0)
        for line in batch.lines():
            at = line.find(b'"n":') + 4
            self.in_order = self.in_order and int(line[at : at + 12]) == self.delivered
            self.delivered += 1
        return SUCCESS

    async def aclose(self) -> None:
        pass


def backlog(path: str, messages: int) -> dict[str, Any]:
    """In the agent's process: start on a large backlog, deliver it in order, in little memory."""
    return asyncio.run(_backlog(path, messages))


async def _backlog(path: str, messages: int) -> dict[str, Any]:
    from salesmachine_async import Agent, Spool
    from salesmachine_async._spool.destination import destination_of

    carrier = _OrderedCarrier(destination_of(URL, TOKEN))
    before = resident_bytes() or 0
    agent = Agent(spool=Spool(path, max_bytes=MAX_BYTES), transport=carrier)
    began = time.perf_counter()
    await agent.start()
    started = time.perf_counter() - began
    most = 0
    while not (spool := agent.stats().spool) or not spool.searches or carrier.delivered < agent.stats().recovered:
        most = max(most, _resident())
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    require("backlog", "messages delivered", messages, carrier.delivered)
    require("backlog", "messages in order", True, carrier.in_order)
    report = await agent.aclose()
    require("backlog", "messages recovered", agent.stats().recovered, carrier.delivered)
    require("backlog", "messages pending", 0, report.pending)
    return {
        "messages": carrier.delivered,
        "start": started,
        "seconds": seconds,
        "resident": most / 1e6,
        "grown": (most - before) / 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
