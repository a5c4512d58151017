"""Pictures of the figures, as SVG. Same figures, same bytes: no dates, no random ids."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks._result import Result, number

OURS: Final = "#1f6feb"
OTHERS: Final = "#9aa4b2"
FLOOR: Final = "#57606a"


def draw(results: list[Result], folder: Path) -> dict[str, list[str]]:
    """Draw what there is to draw into *folder*; returns the files by the name of the result."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "salesmachine_async", "svg.fonttype": "none", "font.size": 10})
    folder.mkdir(exist_ok=True)
    drawn: dict[str, list[str]] = {}
    for result in results:
        picture = _PICTURES.get(result.name)
        if picture is not None and (figures := picture(result)) is not None:
            title, unit, bars = figures
            _bars(folder / f"{result.name}.svg", title, unit, bars)
            drawn[result.name] = [f"{result.name}.svg"]
    return drawn


def _bars(path: Path, title: str, unit: str, bars: dict[str, float]) -> None:
    """Draw one horizontal bar each, on a logarithmic scale where they differ by more than thirty times."""
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.36 * len(bars)), layout="constrained")
    names = list(bars)[::-1]
    drawn = axes.barh(names, [bars[name] for name in names], color=[_color(name) for name in names])
    axes.bar_label(drawn, labels=[f" {number(bars[name])}" for name in names])
    if max(bars.values()) > 30 * min(bars.values()) > 0:
        axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _color(name: str) -> str:
    return OURS if "salesmachine-async" in name else FLOOR if "floor" in name or name == "no tracking" else OTHERS


Picture = tuple[str, str, dict[str, float]]


def _track_cost(result: Result) -> Picture:
    costs = result.data.get("peers_ns") or {"salesmachine-async": result.data["track_ns"]}
    bars = {"the floor": result.data["floor_ns"] / 1000, **{name: cost / 1000 for name, cost in costs.items()}}
    return "One call of track()", "µs, less is better", dict(sorted(bars.items(), key=lambda bar: bar[1]))


def _drain_rate(result: Result) -> Picture:
    rates = {
        ("the floor" if run["who"] == "floor" else run["who"]): run["rate"]
        for run in result.data["runs"]
        if (run["batch"], run["concurrency"], run["loop"]) == (100, 1, "asyncio")
    }
    title = "From the call to confirmed delivery, 100 a batch"
    return title, "messages per second, more is better", dict(sorted(rates.items(), key=lambda bar: -bar[1]))


def _queued_memory(result: Result) -> Picture | None:
    held = {
        name: measured["resident"] for name, measured in result.data.get("peers", {}).items() if "resident" in measured
    }
    if not held:
        return None
    return "Memory of one queued message", "bytes, less is better", dict(sorted(held.items(), key=lambda bar: bar[1]))


def _web_latency(result: Result) -> Picture | None:
    costs = result.data.get("costs")
    if not costs:
        return None
    bars = {name: max(cost["cpu"], 0.0) for name, cost in costs.items() if name != "no tracking"}
    return "What tracking every request costs a FastAPI application", "% more CPU per request, less is better", bars


def _import_cost(result: Result) -> Picture:
    costs = dict(sorted(result.data["milliseconds"].items(), key=lambda bar: bar[1]))
    return "Import", "ms, less is better", costs


_PICTURES: Final[dict[str, Callable[[Result], Picture | None]]] = {
    "track_cost": _track_cost,
    "drain_rate": _drain_rate,
    "queued_memory": _queued_memory,
    "web_latency": _web_latency,
    "import_cost": _import_cost,
}
