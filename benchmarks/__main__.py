"""
Ask all questions.

    python -m benchmarks [--quick] [--json] [--only track_cost,drain_rate]

Writes `RESULTS.md` and the plots beside this file, unless asked for JSON, or for some questions only.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks._cli import options, parser
from benchmarks._machine import environment
from benchmarks._measure import MessageMissing
from benchmarks._result import Result
from benchmarks._worker import WorkerFailed

QUESTIONS: Final = (
    "track_cost",
    "drain_rate",
    "queued_memory",
    "growth",
    "loop_lag",
    "web_latency",
    "outage",
    "shutdown",
    "import_cost",
)
# Takes a while under valgrind; `.ci/run` asks it.
THOROUGH: Final = ("guard",)
HERE: Final = Path(__file__).resolve().parent


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 when a message is missing or a contestant failed, 2 for a missed bar if --strict."""
    arguments = parser("Ask all questions.")
    arguments.add_argument("--only", metavar="NAMES", help="comma-separated; default: all")
    parsed = arguments.parse_args(argv)
    names = parsed.only.split(",") if parsed.only else QUESTIONS if parsed.quick else QUESTIONS + THOROUGH
    results: list[Result] = []
    failures: list[str] = []
    for name in names:
        started = time.monotonic()
        print(f"{name} …", end="", file=sys.stderr, flush=True)
        try:
            results.append(importlib.import_module(f"benchmarks.{name}").ask(options(parsed)))
        except (MessageMissing, WorkerFailed) as exc:
            failures.append(f"{name}: {exc}")
        print(f" {time.monotonic() - started:.0f} s", file=sys.stderr)
    _print(results, as_json=parsed.json)
    if not parsed.json and not parsed.only and not failures:
        _write(results, quick=parsed.quick)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    missed = parsed.strict and not all(bar.met for result in results for bar in result.bars)
    return 1 if failures else 2 if missed else 0


def _print(results: list[Result], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"environment": environment(), "results": [result.as_json() for result in results]}))
        return
    for result in results:
        print(result.as_text())


def _write(results: list[Result], *, quick: bool) -> None:
    """Write the document and, if matplotlib is there, its plots."""
    plots: dict[str, list[str]] = {}
    if importlib.util.find_spec("matplotlib"):
        plots = importlib.import_module("benchmarks._plots").draw(results, HERE / "plots")
    bars = [f"* `{result.name}`: {bar.told()}" for result in results for bar in result.bars]
    parts = [
        "# Benchmark results",
        "Written by `make bench` (`python -m benchmarks`); not edited by hand. The servers run in a process of their "
        "own on the same machine, every contestant in one of its own; contestants take turns, and every message is "
        "counted in the server: a benchmark fails if one is missing. Absolute figures depend on the machine, ratios "
        "within one run do not.",
        "**Quick run**: fewer rounds, shorter runs; less certain." if quick else "",
        "| measured on | |\n| --- | --- |\n"
        + "\n".join(f"| {name} | {told} |" for name, told in environment().items()),
        "## The bars\n\n" + "\n".join(bars),
        *(result.as_markdown(plots.get(result.name, ())).strip() for result in results),
    ]
    (HERE / "RESULTS.md").write_text("\n\n".join(part for part in parts if part) + "\n")


if __name__ == "__main__":
    sys.exit(main())
