"""
How long does it take to close?

    python -m benchmarks.shutdown [--quick] [--json]

With a full queue and a server that is well, slow, silent, or not there.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

from benchmarks._cli import Options, main
from benchmarks._contestants import CONTESTANTS, NO_SERVER, closed, described, installed
from benchmarks._measure import require
from benchmarks._messages import EVENT, numbered
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink
from benchmarks._worker import Worker, WorkerFailed

QUESTION: Final = "how long does closing take with 100 k queued?"
METHOD: Final = (
    "Messages are tracked without the loop turning, then the agent is closed with its deadline. Well: the sink "
    "answers at once. Slow: each answer takes 0.1 s, so that it cannot all be delivered in time. Silent: the server "
    "accepts the connection and never answers. Absent: the port refuses connections. Every message must be "
    "delivered or reported as lost, and what is reported as delivered must be in the sink. Peers: 1,000 messages "
    "and a silent server, flushed and closed as their documents say; ended after so many seconds."
)
# The sink's behaviour for each kind of host; the absent one has no server.
HOSTS: Final[dict[str, dict[str, Any]]] = {
    "well": {},
    "slow": {"delay": 0.1},
    "silent": {"status": -1},
    "absent": {},
}
GRACE: Final = 0.25


def close_agent(messages: int, url: str, deadline: float) -> dict[str, Any]:
    """In the agent's process: seconds that the close took, and its report."""
    return asyncio.run(_close_agent(messages, url, deadline))


async def _close_agent(messages: int, url: str, deadline: float) -> dict[str, Any]:
    from benchmarks._agents import roomy_agent  # the agent is imported in its own process only

    agent = roomy_agent(base_url=url)
    await agent.start()
    for number in range(messages):
        agent.track(f"{number}", EVENT, numbered(number))
    started = time.perf_counter()
    report = await agent.aclose(deadline)
    seconds = time.perf_counter() - started
    lost = sum(report.lost.values())
    require("shutdown", "messages with an outcome", messages, report.delivered + lost)
    return {"seconds": seconds, "delivered": report.delivered, "lost": lost}


def close_peer(name: str, messages: int, url: str) -> float:
    """In a peer's process: seconds that flush and close took together."""
    return asyncio.run(_close_peer(name, messages, url))


async def _close_peer(name: str, messages: int, url: str) -> float:
    contestant = CONTESTANTS[name]()
    contestant.open(url)
    for number in range(messages):
        contestant.track(f"{number}", EVENT, numbered(number))
    started = time.perf_counter()
    await contestant.flush()
    await closed(contestant)
    return time.perf_counter() - started


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("shutdown", QUESTION, METHOD)
    messages, deadline = options.count(100_000, 20_000), options.pick(10.0, 0.5)
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        _ask_agent(options.pick(3, 1), messages, deadline, sink, stack.enter_context(Worker("agent")), result)
        if options.peers and options.quick:
            result.notes.append("Quick: peers skipped.")
        elif options.peers:
            _ask_peers(sink, deadline, result)
    return result


def _ask_agent(rounds: int, messages: int, deadline: float, sink: Sink, worker: Worker, result: Result) -> None:
    measured: dict[str, list[dict[str, float]]] = {host: [] for host in HOSTS}
    for _ in range(rounds):
        for host, behaviour in HOSTS.items():
            sink.reset()
            sink.behave(**behaviour)
            url = NO_SERVER if host == "absent" else sink.url
            closing = worker.call("shutdown:close_agent", messages=messages, url=url, deadline=deadline)
            sink.behave()
            arrived = sink.tally()["unique"]
            if host == "well":
                require(host, "different messages in the sink", messages, arrived)
            # The request that the deadline ended may have arrived as well, which cannot be known.
            require(
                host, "messages delivered and in the sink", closing["delivered"], min(closing["delivered"], arrived)
            )
            measured[host].append(closing)
    result.tables.append(
        Table(
            f"aclose() of {messages:,} queued messages, deadline {deadline:g} s",
            ["host", "seconds", "worst", "delivered", "reported lost"],
            [
                [
                    host,
                    median(one["seconds"] for one in closings),
                    max(one["seconds"] for one in closings),
                    median(one["delivered"] for one in closings),
                    median(one["lost"] for one in closings),
                ]
                for host, closings in measured.items()
            ],
        )
    )
    for host in ("slow", "silent", "absent"):
        worst = max(one["seconds"] for one in measured[host])
        result.bars.append(
            Bar(f"{host} host: seconds beyond the deadline", max(0.0, worst - deadline), GRACE, unit=" s")
        )
    result.data["seconds"] = {host: [one["seconds"] for one in closings] for host, closings in measured.items()}


def _ask_peers(sink: Sink, deadline: float, result: Result) -> None:
    names, missing = installed(("salesmachine-python", "AsyncPosthog", "posthog (threads)", "segment", "rudder"))
    result.notes += missing
    patience = 2 * deadline + 10
    sink.behave(status=-1)
    rows: list[list[str | float | None]] = []
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name)) for name in names}
        for name, worker in workers.items():
            worker.begin("shutdown:close_peer", name=name, messages=1000, url=sink.url)
        started = time.perf_counter()
        for name, worker in workers.items():
            try:
                seconds = worker.result("close_peer", max(0.1, patience - (time.perf_counter() - started)))
                rows.append([described(name), seconds])
            except WorkerFailed:
                rows.append([described(name), f"more than {patience:g}"])
    title = f"Beside peers: 1,000 queued and a silent server (the agent's deadline: {deadline:g} s; theirs: none)"
    result.tables.append(Table(title, ["client", "seconds"], [*rows]))


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
