"""
Has a call become dearer? A regression guard that does not depend on the clock.

    python -m benchmarks.guard [--json]

Counts, of calls in a row: the instructions that the processor executes, by `valgrind --tool=callgrind`, over those of
the floor in the same run; and the memory blocks that stay allocated. Both come out the same on a busy machine, so the
bounds can be near. Without valgrind (`apt-get install valgrind`) only the blocks are counted. Exit status 1 beyond a
bound.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks._machine import environment
from benchmarks._messages import EVENT, LARGE, ODD, SMALL
from benchmarks._result import Bar, Result, Table
from benchmarks._worker import ROOT

QUESTION: Final = "has a call become dearer?"
METHOD: Final = (
    "Instructions executed in 2,000 calls before the start (sealing is the loop's), counted by callgrind, "
    "with a clock that stands still and a fixed hash seed; over those of the floor in the same run. Blocks: what "
    "sys.getallocatedblocks() has risen by in the same calls, for each of them."
)
CALLS: Final = 2000
# The bounds: what a section may cost over its floor. A seventh or so above what was measured on CPython 3.11 to 3.13
# when they were set (in the comment). Memory addresses still move it by a few percent.
SECTIONS: Final[dict[str, tuple[str, float]]] = {
    "track, small": ("floor, small", 1.8),  # 1.55
    "track, 2 KB": ("floor, 2 KB", 2.25),  # 1.92 to 1.99
    "track, a Decimal": ("floor, small", 5.4),  # 4.53
    "contact, small": ("floor, contact", 2.05),  # 1.79
}
# A line is a block until the loop seals it. More would be something that a call leaves behind.
BLOCKS_PER_CALL: Final = 1.1
# Functions of the interpreter that run each section, and nothing else: the first calls the second, and that is a call
# which callgrind sees; it does not see the one by ctypes.
_DOOR: Final = "PyRun_SimpleString"
_BRACKET: Final = "PyRun_SimpleStringFlags"
_SUMMARY: Final = re.compile(r"^summary: (\d+)", re.MULTILINE)


def _calls() -> dict[str, Callable[[], None]]:
    """Return what is counted: by name, a function that makes CALLS calls."""
    # A clock that stands still, or the slower the machine, the more time stamps would be made. Before the import of the
    # agent, which takes a clock that is replaced later the slow way.
    time.time = itertools.repeat(time.time()).__next__

    from benchmarks._agents import roomy_agent
    from benchmarks._floor import Floor

    floor = Floor(str)
    agent = roomy_agent()

    def tracks(call: Callable[..., object], params: dict[str, Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                call("100000", EVENT, params)

        return run

    def contacts(call: Callable[..., object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                call("100000", SMALL)

        return run

    return {
        "floor, small": tracks(floor.track, SMALL),
        "track, small": tracks(agent.track, SMALL),
        "floor, 2 KB": tracks(floor.track, LARGE),
        "track, 2 KB": tracks(agent.track, LARGE),
        "track, a Decimal": tracks(agent.track, ODD),
        "floor, contact": contacts(floor.contact),
        "contact, small": contacts(agent.contact),
    }


def _count() -> None:
    """Run all sections, each first to warm up and then in brackets; print the blocks that each has kept."""
    sections = _calls()
    bracket = getattr(ctypes.pythonapi, _DOOR)
    kept: dict[str, float] = {}
    # What the bracketed code calls, as it is found there.
    main = sys.modules["__main__"]
    for name, run in sections.items():
        run()
        vars(main)["_section"] = run
        before = sys.getallocatedblocks()
        bracket(b"_section()")
        kept[name] = (sys.getallocatedblocks() - before) / CALLS
    print(json.dumps({"names": list(sections), "blocks": kept}), flush=True)
    # The agent is not closed: it was never started.
    os._exit(0)


def _run(prefix: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "benchmarks.guard", "--count"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    counted: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return counted


def _instructions() -> dict[str, float] | None:
    """Return instructions per call by section; None where they cannot be counted."""
    if shutil.which("valgrind") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        counted = _run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--toggle-collect={_BRACKET}",
                f"--dump-after={_BRACKET}",
                f"--callgrind-out-file={out}",
            ]
        )
        # One file each, in order; the one without a number is the rest.
        parts = sorted(Path(folder).glob("out.*"), key=lambda part: int(part.suffix[1:]))
        totals = [int(found[1]) / CALLS for part in parts if (found := _SUMMARY.search(part.read_text()))]
    # None: a build of the interpreter in which callgrind does not see the brackets.
    return dict(zip(counted["names"], totals, strict=True)) if totals else None


def ask(_options: object = None) -> Result:
    """Answer."""
    result = Result("guard", QUESTION, METHOD)
    blocks = _run([])["blocks"]
    instructions = _instructions()
    rows: list[list[str | float | None]] = []
    for name, (floor, limit) in SECTIONS.items():
        row: list[str | float | None] = [name, blocks[name]]
        if instructions is not None:
            ratio = instructions[name] / instructions[floor]
            row += [instructions[name], instructions[floor], ratio]
            result.bars.append(Bar(f"{name}: instructions over the floor's", ratio, limit, unit=" x"))
        rows.append(row)
        result.bars.append(Bar(f"{name}: blocks kept per call", blocks[name], BLOCKS_PER_CALL))
    columns = ["call", "blocks kept", "instructions", "of the floor", "ratio"]
    if instructions is None:
        columns = columns[:2]
        result.notes.append(
            "instructions skipped: valgrind is not installed (apt-get install valgrind), or cannot count here"
        )
    result.tables.append(Table("One call", columns, [*rows]))
    result.data.update({"instructions": instructions, "blocks": blocks})
    return result


def main() -> int:
    """Return the exit status: 1 beyond a bound."""
    arguments = argparse.ArgumentParser(description=QUESTION)
    arguments.add_argument("--json", action="store_true", help="print JSON")
    arguments.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    parsed = arguments.parse_args()
    if parsed.count:
        _count()
    result = ask()
    print(json.dumps({"environment": environment(), **result.as_json()}) if parsed.json else result.as_text())
    return 0 if all(bar.met for bar in result.bars) else 1


if __name__ == "__main__":
    sys.exit(main())
