"""
Ask all questions.

    python -m benchmarks [--quick] [--json] [--only track_cost,drain_rate] [--also FILE ...]

Writes `RESULTS.md` and the plots beside this file, unless --json or names of benchmarks are given.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks._cli import options, parser
from benchmarks._document import write
from benchmarks._machine import environment
from benchmarks._result import Result

QUESTIONS: Final = (
    "track_cost",
    "scrub_cost",
    "drain_rate",
    "queued_memory",
    "growth",
    "loop_lag",
    "web_latency",
    "outage",
    "shutdown",
    "import_cost",
    "import_rate",
    "spool",
    "relay",
)
# Takes a while under valgrind; `.ci/run` asks it.
THOROUGH: Final = ("guard",)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 when a message is missing or a contestant failed, 2 for a missed bar if --strict."""
    arguments = parser("Ask all questions.")
    arguments.add_argument("--only", metavar="NAMES", help="comma-separated; default: all")
    arguments.add_argument(
        "--also", metavar="FILE", nargs="*", type=Path, default=[], help="what --json printed on other Pythons"
    )
    parsed = arguments.parse_args(argv)
    names = parsed.only.split(",") if parsed.only else QUESTIONS if parsed.quick else QUESTIONS + THOROUGH
    results: list[Result] = []
    failures: list[str] = []
    for name in names:
        started = time.monotonic()
        print(f"{name} …", end="", file=sys.stderr, flush=True)
        try:
            results.append(importlib.import_module(f"benchmarks.{name}").ask(options(parsed)))
        except Exception as exc:  # noqa: BLE001 (the other benchmarks run nevertheless)
            failures.append(f"{name}: {type(exc).__name__}: {exc}")
        print(f" {time.monotonic() - started:.0f} s", file=sys.stderr)
    _print(results, as_json=parsed.json)
    if not parsed.json and not parsed.only and not failures:
        write(results, [json.loads(other.read_text()) for other in parsed.also if other.exists()], quick=parsed.quick)
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


if __name__ == "__main__":
    sys.exit(main())
