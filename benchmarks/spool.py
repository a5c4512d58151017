"""
What does a spool cost, and how fast is its disk half?

    python -m benchmarks.spool [--quick] [--json]

The folder that is measured lies in the directory for temporary files, or in SALESMACHINE_BENCH_FOLDER.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

from benchmarks._cli import Options, main
from benchmarks._machine import version
from benchmarks._measure import require
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink
from benchmarks._spool_disk import folder
from benchmarks._worker import Worker

QUESTION: Final = "what does a spool cost, and how fast are its files?"
METHOD: Final = (
    "Steady: 20,000 calls a second to a healthy sink, with a spool and without, in turn, each in a process of its own; "
    "the call by the wall clock (median, the timer's cost taken off), the message by the CPU time of the whole "
    "process, all threads; the ratio is the median of the ratios of neighbouring rounds. Slow disk: the same calls in "
    "an outage while each fdatasync takes 500 ms; `loop_lag` says how the loop is watched. Append: batches of 20 KB, "
    "made durable one by one and 50 with each commit, beside SQLite (WAL, synchronous=FULL) and persist-queue in the "
    "same run. Scan: reading and verifying what a dead process left; recovery: the same as an agent does it, 2 MiB at "
    "a time; the bar is by CPU time, because others take the wall clock's. Backlog: an agent starts on it, and "
    "delivers it in order to a transport without a network."
)


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("spool", QUESTION, METHOD)
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        _steady(options, result, sink)
        _slow_disk(options, result, sink)
    _append(options, result)
    _read(options, result)
    return result


def _steady(options: Options, result: Result, sink: Sink) -> None:
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    for seed in range(1, options.pick(9, 2) + 1):
        pair: list[dict[str, float]] = []
        # Which one is first alternates: the machine may become slower or faster.
        for spooled in (False, True) if seed % 2 else (True, False):
            with Worker("agent", seed) as worker:
                figures = worker.call(
                    "_spool_agent:steady", spooled=spooled, seconds=options.pick(5.0, 1.0), port=sink.port
                )
            tally = sink.tally()
            require("steady", "different messages in the sink", int(figures["made"]), tally["unique"])
            sink.reset()
            pair.append(figures)
        rounds.append((pair[0], pair[1]) if seed % 2 else (pair[1], pair[0]))
    keys = ("call_ns", "call_p99_ns", "cpu_us", "rate", "commits")
    columns = ["agent", "call p50, ns", "call p99, ns", "CPU µs/msg", "calls a second", "commits"]
    rows: list[list[str | float | None]] = [
        [name, *(median(pair[which][key] for pair in rounds) for key in keys)]
        for which, name in enumerate(("without a spool", "with a spool"))
    ]
    result.tables.append(Table("20,000 calls a second to a healthy server", columns, [*rows]))
    for key, what in (("call_ns", "a call with a spool over one without"), ("cpu_us", "CPU of a message, likewise")):
        ratio = median(pair[1][key] / pair[0][key] for pair in rounds)
        result.bars.append(Bar(what, ratio, 1.05, unit=" x"))
        result.data[key] = {"ratio": ratio, "rounds": [[pair[0][key], pair[1][key]] for pair in rounds]}


def _slow_disk(options: Options, result: Result, sink: Sink) -> None:
    seconds = options.pick(4.0, 1.0)
    measured: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for _ in range(options.pick(3, 1)):
        for spooled, ones in measured.items():
            with Worker("agent") as worker:
                ones.append(worker.call("_spool_agent:slow_disk", spooled=spooled, seconds=seconds, port=sink.port))
            sink.reset()
    rows: list[list[str | float | None]] = [
        [
            "with a spool" if spooled else "without a spool",
            *(
                median(one["waits"][clock][key] for one in ones)
                for clock in ("busy", "wall")
                for key in ("p50", "p99", "max")
            ),
            median(one["commits"] for one in ones),
        ]
        for spooled, ones in measured.items()
    ]
    columns = [
        "agent",
        *(f"{clock} {key}, ms" for clock in ("busy", "wall") for key in ("p50", "p99", "max")),
        "commits",
    ]
    result.tables.append(Table("The event loop while each fdatasync takes 500 ms", columns, [*rows]))
    p99 = median(one["waits"]["busy"]["p99"] for one in measured[True])
    result.bars.append(Bar("loop held while fdatasync takes 500 ms, p99, busy", p99, 1.0, unit=" ms"))
    result.data["slow_disk"] = {str(spooled): ones for spooled, ones in measured.items()}


def _append(options: Options, result: Result) -> None:
    queues = ["spool", "sqlite"]
    if version("persist-queue") is None:
        result.notes.append("persist-queue skipped: not installed")
    elif options.peers:
        queues.append("persist-queue")
    rates: dict[tuple[str, int], list[float]] = {(queue, per): [] for per in (1, 50) for queue in queues}
    for _ in range(options.pick(5, 1)):
        with Worker("disk") as worker:
            for (queue, per_commit), found in rates.items():
                batches = options.pick(1000, 100) if per_commit == 1 else options.pick(5000, 500)
                found.append(
                    worker.call("_spool_disk:append_rate", queue=queue, batches=batches, per_commit=per_commit)
                )
    medians = {key: median(found) for key, found in rates.items()}
    rows: list[list[str | float | None]] = [
        [
            queue,
            *(
                figure
                for per in (1, 50)
                for figure in (medians[queue, per], medians[queue, per] / medians["sqlite", per])
            ),
        ]
        for queue in queues
    ]
    columns = ["queue", "1 a commit, batches/s", "of SQLite", "50 a commit, batches/s", "of SQLite "]
    result.tables.append(Table("Appending batches of 20 KB durably", columns, [*rows]))
    result.data["append"] = {f"{queue}, {per}": rate for (queue, per), rate in medians.items()}


def _read(options: Options, result: Result) -> None:
    with Worker("disk") as worker:
        scans = [
            worker.call("_spool_disk:scan_rate", messages=options.pick(400_000, 50_000))
            for _ in range(options.pick(5, 1))
        ]
    scan, scan_cpu, recover = (median(one[key] for one in scans) for key in ("scan", "scan_cpu", "recover"))
    # A multiple of what `write_backlog` writes at once.
    messages = options.pick(2_002_000, 52_000)
    with folder() as path:
        with Worker("disk") as worker:
            size = worker.call("_spool_disk:write_backlog", path=path, messages=messages, timeout=300.0)
        with Worker("agent") as worker:
            backlog = worker.call("_spool_agent:backlog", path=path, messages=messages, timeout=600.0)
    result.tables.append(
        Table(
            "What a dead process left",
            ["what", "figure"],
            [
                ["scan, MB/s", scan],
                ["scan, MB per second of CPU time", scan_cpu],
                ["recovery, MB/s", recover],
                ["backlog, messages", backlog["messages"]],
                ["backlog, MB", size / 1e6],
                ["start, s", backlog["start"]],
                ["delivered after, s", backlog["seconds"]],
                ["resident, MB", backlog["resident"]],
                ["of it grown, MB", backlog["grown"]],
            ],
        )
    )
    result.bars += [
        Bar("recovery scan, by CPU time", scan_cpu, 300, at_most=False, unit=" MB/s"),
        Bar(f"start with a backlog of {backlog['messages']:,}", backlog["start"], 0.5, unit=" s"),
        Bar("resident memory while it is delivered", backlog["resident"], 200, unit=" MB"),
    ]
    result.data |= {"scan": scans, "backlog": backlog}


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
