"""
How much memory does a queued message take?

    python -m benchmarks.queued_memory [--quick] [--json]

Every figure comes from a new process, which makes a client without delivery, gives it messages, and compares the
memory before and after with the bytes that these messages are on the wire.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import orjson

from benchmarks._cli import Options, main
from benchmarks._contestants import CONTESTANTS, KEEPERS, Contestant, closed, described, installed
from benchmarks._floor import Floor, message
from benchmarks._measure import require, resident_bytes
from benchmarks._messages import EVENT, numbered
from benchmarks._result import Bar, Result, Table
from benchmarks._worker import Worker

QUESTION: Final = "how much memory does a queued message take?"
METHOD: Final = (
    "Every figure from a new process: a client that does not deliver is given messages with different params, which "
    "are dropped by the caller at once. Allocated: what Python's allocators hold more than before (tracemalloc). "
    "Resident: what the process holds more than before, as the system sees it. Both as bytes per message and over the "
    "bytes on the wire. The floor keeps the same messages in one bytearray. Resident memory is measured from 20,000 "
    "messages up: below, it shows the system's pages only."
)
ENOUGH_FOR_RESIDENT: Final = 20_000
# Without delivery, these drop the message; Mixpanel's buffer holds at most fifty, as it comes.
NOT_KEEPING: Final = ("posthog (threads)", "segment", "rudder", "mixpanel")


def held(name: str, messages: int, traced: bool) -> dict[str, float]:
    """In a process of its own: how much memory *messages* of them take; bytes."""
    return asyncio.run(_held(name, messages, traced))


async def _held(name: str, messages: int, traced: bool) -> dict[str, float]:
    call, counted, contestant = _client(name)
    for number in range(200):  # to warm up
        call(f"{number}", EVENT, numbered(number))
    before = _memory(traced)
    for number in range(messages):
        call(f"{number}", EVENT, numbered(number))
    after = _memory(traced)
    tracemalloc.stop()
    queued = counted()
    if queued is not None:
        require(name, "messages held", messages + 200, queued)
    if contestant is not None:
        await closed(contestant)
    return {"held": after - before, "wire": _wire_bytes(messages)}


def _client(name: str) -> tuple[Callable[..., object], Callable[[], int | None], Contestant | None]:
    """Return the call, what counts the messages held (None: it does not tell), and the client."""
    if name == "floor":
        floor = Floor()
        return floor.track, lambda: floor.kept().count(b'"messageId"'), None
    contestant = CONTESTANTS[name]()
    contestant.open(None)
    return contestant.track, lambda: _queued(contestant), contestant


def _queued(contestant: Contestant) -> int | None:
    client: Any = vars(contestant).get("agent") or vars(contestant).get("_client")
    if contestant.distribution == "salesmachine-async":
        return int(client.stats().queued)
    queue: Any = getattr(client, "queue", None)
    return int(queue.qsize()) if hasattr(queue, "qsize") else None


def _memory(traced: bool) -> int:
    gc.collect()
    if not traced:
        return resident_bytes() or 0
    if not tracemalloc.is_tracing():
        tracemalloc.start(1)
    return tracemalloc.get_traced_memory()[0]


def _wire_bytes(messages: int) -> int:
    """Return what the messages are on the wire of Salesmachine, separators included."""
    return sum(len(orjson.dumps(message(f"{number}", EVENT, numbered(number)))) + 1 for number in range(messages))


def _measure(name: str, messages: int) -> dict[str, float]:
    """Ask a new process for each figure: memory that is freed and taken again would blur the second."""
    with Worker(name) as worker:
        traced = worker.call("queued_memory:held", name=name, messages=messages, traced=True, timeout=300.0)
    measured = {"messages": messages, "wire": traced["wire"] / messages, "allocated": traced["held"] / messages}
    if messages >= ENOUGH_FOR_RESIDENT:
        with Worker(name) as worker:
            resident = worker.call("queued_memory:held", name=name, messages=messages, traced=False, timeout=300.0)
        if resident["held"] > 0:
            measured["resident"] = resident["held"] / messages
    return measured


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("queued_memory", QUESTION, METHOD)
    counts = options.pick([1000, 10_000, 100_000, 1_000_000], [1000, 20_000])
    if options.messages:
        counts = [options.messages]
    series = {name: [_measure(name, count) for count in counts] for name in ("floor", "salesmachine-async")}
    result.tables.append(
        Table(
            "Bytes per queued message",
            ["client", "messages", "wire", "allocated", "over wire", "resident", "over wire"],
            [_row(name, measured) for name, points in series.items() for measured in points],
        )
    )
    agent = series["salesmachine-async"]
    over = [measured["allocated"] / measured["wire"] for measured in agent]
    over_resident = [measured["resident"] / measured["wire"] for measured in agent if "resident" in measured]
    result.bars.append(Bar("worst allocated memory over wire bytes", max(over), 1.15, unit=" x"))
    if over_resident:
        result.bars.append(Bar("worst resident memory over wire bytes", max(over_resident), 1.15, unit=" x"))
    if len(counts) > 1:
        result.bars.append(Bar("flat: dearest message over cheapest", max(over) / min(over), 1.1, unit=" x"))
    result.data.update(
        {"series": series, "over_wire": max(over), "over_wire_resident": max(over_resident, default=None)}
    )
    if options.peers:
        _ask_peers(options, result)
    return result


def _row(name: str, measured: dict[str, float]) -> list[str | float | None]:
    wire, resident = measured["wire"], measured.get("resident")
    return [
        name,
        int(measured["messages"]),
        wire,
        measured["allocated"],
        measured["allocated"] / wire,
        resident,
        resident / wire if resident else None,
    ]


def _ask_peers(options: Options, result: Result) -> None:
    if resident_bytes() is None:
        result.notes.append("peers skipped: this system does not tell a process's resident memory")
        return
    names, missing = installed(tuple(name for name in KEEPERS if name not in NOT_KEEPING), quick=options.quick)
    result.notes += missing
    messages = max(ENOUGH_FOR_RESIDENT, options.count(50_000, 20_000))
    measured = {name: _measure(name, messages) for name in ("salesmachine-async", *names)}
    measured.get("confluent-kafka", {}).pop("allocated", None)  # not by Python's allocators
    rows = sorted(measured.items(), key=lambda item: item[1]["resident"])
    agent = measured["salesmachine-async"]["resident"]
    result.tables.append(
        Table(
            f"Beside peers: bytes per message with {messages:,} queued",
            ["client", "allocated", "resident", "times the agent"],
            [
                [described(name), figures.get("allocated"), figures["resident"], figures["resident"] / agent]
                for name, figures in rows
            ],
        )
    )
    result.notes.append(
        "confluent-kafka keeps its messages outside of Python's allocators: only its resident memory counts. "
        f"Not compared, because they keep nothing, or next to nothing, unless they deliver: {', '.join(NOT_KEEPING)}."
    )
    result.data["peers"] = measured


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
