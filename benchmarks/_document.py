"""What `make bench` writes: `RESULTS.md` and its plots, beside this file."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Final

from benchmarks._machine import environment
from benchmarks._result import Bar, Result, Table, markdown, number

HERE: Final = Path(__file__).resolve().parent


def write(results: list[Result], others: list[dict[str, Any]], *, quick: bool) -> None:
    """
    Write the document and, if matplotlib is there, its plots.

    Args:
        results: Of this Python.
        others: What ``python -m benchmarks --json`` has printed on other Pythons.
        quick: Whether they were quick runs.
    """
    plots: dict[str, list[str]] = {}
    if importlib.util.find_spec("matplotlib"):
        plots = importlib.import_module("benchmarks._plots").draw(results, HERE / "plots")
    parts = [
        "# Benchmark results",
        "Written by `make bench` (`python -m benchmarks`); not edited by hand. The servers run in a process of their "
        "own on the same machine, every contestant in one of its own; contestants take turns, and every message is "
        "counted in the server: a benchmark fails if one is missing. Absolute figures depend on the machine, ratios "
        "within one run do not.",
        "**Quick run**: fewer rounds, shorter runs; less certain." if quick else "",
        markdown(Table("", ["measured on", ""], [*environment().items()]).cells()),
        "## The bars\n\n" + "\n".join(f"* `{result.name}`: {bar.text()}" for result in results for bar in result.bars),
        on_other_pythons(results, others),
        *(result.as_markdown(plots.get(result.name, ())).strip() for result in results),
    ]
    (HERE / "RESULTS.md").write_text("\n\n".join(part for part in parts if part) + "\n")


def on_other_pythons(results: list[Result], others: list[dict[str, Any]]) -> str:
    """Return the bars in a table with a column for each Python; nothing if there is only one."""
    if not others:
        return ""
    columns = {
        environment().get("CPython", "this Python"): {(r.name, bar.what): bar for r in results for bar in r.bars}
    }
    for other in others:
        columns[other["environment"]["CPython"]] = {
            (figures["name"], bar["what"]): Bar(
                bar["what"], bar["value"], bar["limit"], at_most=bar["at_most"], unit=bar["unit"]
            )
            for figures in other["results"]
            for bar in figures["bars"]
        }
    rows: list[list[str]] = []
    for name, what in dict.fromkeys(key for column in columns.values() for key in column):
        bars = [column.get((name, what)) for column in columns.values()]
        limit = next(bar for bar in bars if bar is not None)
        sign = "≤" if limit.at_most else "≥"
        rows.append([f"`{name}`: {what}", f"{sign} {number(limit.limit)}{limit.unit}", *map(_cell, bars)])
    if not rows:
        return ""
    return "## On each CPython\n\n" + markdown([["bar", "bound", *columns], *rows])


def _cell(bar: Bar | None) -> str:
    if bar is None:
        return ""
    return f"{number(bar.value)}{bar.unit}{'' if bar.met else ' (missed)'}"
