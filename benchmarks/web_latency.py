"""
What does tracking every request cost a web application?

    python -m benchmarks.web_latency [--quick] [--json]

A FastAPI application under uvicorn, loaded by wrk: without tracking, with the agent, with peers. Needs fastapi and
uvicorn (`pip install --group bench`) and wrk (`apt-get install wrk`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Final, Self

from benchmarks._cli import Options, main
from benchmarks._contestants import described, installed
from benchmarks._machine import version
from benchmarks._measure import require
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink
from benchmarks._worker import ROOT, WorkerFailed

QUESTION: Final = "what does tracking every request cost a FastAPI application?"
METHOD: Final = (
    "A FastAPI application (one JSON route, uvloop and httptools if installed) under uvicorn, one process per way "
    "of tracking, each with a sink of its own; wrk loads one after the other in turn, always on as many connections. "
    "The cost is the median of the ratios to the untracked application in the same turn: of the requests per second, "
    "and of the application's own CPU time per request (all its threads, delivery included), which other processes "
    "on the machine disturb less. In the end the number of different messages in the sink must be that of the "
    "requests answered. A hundred messages a batch, which is the agent's default; and a thousand, which suits an "
    "application of thousands of requests a second better. The floor: encode, keep, and post by the hundred, or the "
    "thousand, with a bare aiohttp session; between the requests of an application all of this is dearer than in a "
    "loop, for everyone, because the processor's caches are cold."
)
UNTRACKED: Final = "no client"
FLOOR: Final = "floor"
AGENT: Final = "salesmachine-async"
DEFAULT_BATCH: Final = 100
LARGE_BATCH: Final = 1000
CONNECTIONS: Final = 16
_RATE: Final = re.compile(r"Requests/sec:\s*([\d.]+)")
_LATENCY: Final = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)", re.MULTILINE)
_IN_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class Way:
    """
    One way to track.

    Attributes:
        who: `UNTRACKED`, `FLOOR`, or a contestant.
        batch: Messages in a request.
    """

    who: str
    batch: int = DEFAULT_BATCH

    def __str__(self) -> str:
        """Return its name in tables."""
        name = {UNTRACKED: "no tracking", FLOOR: "the floor"}.get(self.who) or described(self.who)
        return name if self.batch == DEFAULT_BATCH else f"{name}, {self.batch:,} a batch"


class WebApp:
    """The parent's side of one application process."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.sink = Sink()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._web_app", way.who, str(way.batch), self.sink.url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        try:
            self.url = f"http://127.0.0.1:{int(self._line(30.0))}/items/123456"
        except BaseException:
            self._kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.sink.close()

    def load(self, seconds: float) -> dict[str, float]:
        """Let wrk load it; requests per second, p50 and p99 in milliseconds, CPU microseconds per request."""
        cpu = self._cpu()
        measured = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", self.url],
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
        ).stdout
        cpu = self._cpu() - cpu
        rate = _RATE.search(measured)
        if rate is None or "Non-2xx" in measured or "Socket errors" in measured:
            raise WorkerFailed(f"{self.way}: wrk said: {measured}")
        latency = {share: float(value) * _IN_MS[unit] for share, value, unit in _LATENCY.findall(measured)}
        per_second = float(rate[1])
        return {
            "rate": per_second,
            "p50": latency["50"],
            "p99": latency["99"],
            "cpu_us": cpu / (per_second * seconds) * 1e6,
        }

    def finish(self, patience: float) -> int:
        """Let it deliver what is left and end; returns how many requests it answered."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        served: int = json.loads(self._line(patience))["served"]
        return served

    def _cpu(self) -> float:
        """Return the CPU seconds of the process so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _line(self, patience: float) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise WorkerFailed(f"{self.way}: the application does not answer")
        return line


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("web_latency", QUESTION, METHOD)
    if lacking := _lacking():
        result.notes.append(f"skipped: {lacking}")
        return result
    batches = (DEFAULT_BATCH,) if options.quick else (DEFAULT_BATCH, LARGE_BATCH)
    ways = [Way(UNTRACKED), *(Way(who, batch) for batch in batches for who in (FLOOR, AGENT))]
    if options.peers:
        names, missing = installed(
            ("AsyncPosthog",) if options.quick else ("AsyncPosthog", "segment", "salesmachine-python"),
            quick=options.quick,
        )
        ways += map(Way, names)
        result.notes += missing
    with ExitStack() as stack:
        apps = [stack.enter_context(WebApp(way)) for way in ways]
        for app in apps:
            app.load(options.pick(2, 1))  # to warm up
        measured: dict[Way, list[dict[str, float]]] = {app.way: [] for app in apps}
        for _ in range(options.pick(9, 2)):
            for app in apps:
                measured[app.way].append(app.load(options.pick(3, 1)))
        for app in apps:
            _account(app, patience=options.pick(300.0, 60.0), result=result)
    _report(measured, batches, result)
    return result


def _lacking() -> str | None:
    for module in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (pip install --group bench)"
    if shutil.which("wrk") is None:
        return "wrk is not installed (apt-get install wrk)"
    return None if Path("/proc/self/stat").exists() else "this system has no /proc"


def _account(app: WebApp, patience: float, result: Result) -> None:
    started = time.perf_counter()
    served = app.finish(patience)
    seconds = time.perf_counter() - started
    if app.way.who != UNTRACKED:
        require(str(app.way), "different messages in the sink", served, app.sink.tally()["unique"])
        result.data.setdefault("left", {})[str(app.way)] = seconds


def _report(measured: dict[Way, list[dict[str, float]]], batches: tuple[int, ...], result: Result) -> None:
    free = measured[Way(UNTRACKED)]
    rows: list[list[str | float | None]] = []
    costs: dict[Way, dict[str, float]] = {}
    for way, loads in measured.items():
        rate = median(load["rate"] / other["rate"] for load, other in zip(loads, free, strict=True))
        cpu = median(load["cpu_us"] / other["cpu_us"] for load, other in zip(loads, free, strict=True))
        costs[way] = {"throughput": 100 * (1 - rate), "cpu": 100 * (cpu - 1)}
        medians = [median(load[key] for load in loads) for key in ("rate", "p50", "p99", "cpu_us")]
        left = result.data.get("left", {}).get(str(way))
        rows.append([str(way), *medians, costs[way]["throughput"], costs[way]["cpu"], left])
    columns = [
        "tracking",
        "requests/s",
        "p50, ms",
        "p99, ms",
        "CPU µs/request",
        "throughput lost, %",
        "more CPU, %",
        "left to deliver, s",
    ]
    result.tables.append(Table("Every request tracked", columns, [*rows]))
    for batch in batches:
        cost = costs[Way(AGENT, batch)]
        result.bars.append(Bar(f"throughput lost to the agent, {batch:,} a batch", cost["throughput"], 3.0, unit=" %"))
    floors = ", ".join(
        f"{costs[Way(FLOOR, batch)]['throughput']:.1f} % of the throughput and {costs[Way(FLOOR, batch)]['cpu']:.1f} % "
        f"more CPU at {batch:,} a batch"
        for batch in batches
    )
    result.notes.append(
        f"What the floor takes here, and so any client on orjson and aiohttp: {floors}. "
        f"fastapi {version('fastapi')}, uvicorn {version('uvicorn')}, uvloop {version('uvloop') or 'absent'}, "
        f"httptools {version('httptools') or 'absent'}; {CONNECTIONS} connections; {len(free)} rounds. Left to "
        "deliver: how long flushing took after the load had ended; a client that cannot keep up piles messages up, "
        "and its application looks cheaper than it is."
    )
    result.data["loads"] = {str(way): loads for way, loads in measured.items()}
    result.data["costs"] = {str(way): cost for way, cost in costs.items()}


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
