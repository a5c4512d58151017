"""
What does the import cost?

    python -m benchmarks.import_cost [--quick] [--json]

A new interpreter for every import, in turn with one that imports nothing.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from statistics import median
from typing import Final

from benchmarks._cli import Options, main
from benchmarks._contestants import CONTESTANTS, described, installed
from benchmarks._machine import version
from benchmarks._result import Bar, Result, Table

QUESTION: Final = "how long does the import take, and what does it pull in?"
METHOD: Final = (
    "The class that an application uses, in a new interpreter for every import, in turn with one that imports "
    "nothing and with one that imports aiohttp alone (which any asyncio HTTP client of this kind needs); wall time "
    "from start to exit, less that of the empty one; medians. Bytecode was compiled before. The pytest plug-in is "
    "timed inside an interpreter that has imported pytest."
)
IMPORTS: Final = {
    "salesmachine-python": "from salesmachine.client import Client",
    "AsyncPosthog": "from posthog import AsyncPosthog",
    "segment": "from segment.analytics import Client",
    "rudder": "from rudderstack.analytics import Client",
    "mixpanel": "from mixpanel import Mixpanel, BufferedConsumer",
    "amplitude": "from amplitude import Amplitude",
    "snowplow": "from snowplow_tracker import Tracker, AsyncEmitter",
}
# Whole branches that a user of the agent must not pay for.
FORBIDDEN: Final = ("aiohttp.web", "click", "rich", "sqlite3", "salesmachine_async.sandbox", "salesmachine_async.cli")
# What every run of pytest pays for having us installed.
PLUGIN: Final = (
    "import time, pytest; start = time.perf_counter(); import salesmachine_async.testing.plugin; "
    "print((time.perf_counter() - start) * 1000)"
)
PLUGIN_MILLISECONDS: Final = 5.0


def _seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def _plugin_milliseconds() -> float:
    measured = subprocess.run([sys.executable, "-c", PLUGIN], check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(measured)


def _modules(code: str) -> list[str]:
    """Return the modules that *code* imports, beyond those of an interpreter that only starts."""
    measured = subprocess.run(
        [sys.executable, "-c", f"import sys; had = set(sys.modules); {code}; print(sorted(set(sys.modules) - had))"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    modules: list[str] = json.loads(measured.strip().splitlines()[-1].replace("'", '"'))
    return modules


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("import_cost", QUESTION, METHOD)
    codes = {
        "nothing": "pass",
        "aiohttp": "import aiohttp",
        "salesmachine-async": "from salesmachine_async import Agent",
    }
    if options.peers:
        names, missing = installed(tuple(IMPORTS), quick=options.quick)
        result.notes += missing
        codes |= {name: IMPORTS[name] for name in names}
    modules = {name: _modules(code) for name, code in codes.items()}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(options.pick(15, 3)):
        for name, code in codes.items():
            times[name].append(_seconds(code))
    empty = median(times.pop("nothing"))
    milliseconds = {name: (median(measured) - empty) * 1000 for name, measured in times.items()}
    result.tables.append(
        Table(
            "Imports",
            ["import", "ms", "modules"],
            [
                [described(name) if name in CONTESTANTS else f"{name} {version(name)}", cost, len(modules[name])]
                for name, cost in sorted(milliseconds.items(), key=lambda item: item[1])
            ],
        )
    )
    ours = modules["salesmachine-async"]
    unwanted = [name for name in ours if any(name == bad or name.startswith(f"{bad}.") for bad in FORBIDDEN)]
    result.bars.append(Bar(f"modules of {', '.join(FORBIDDEN)} pulled in", len(unwanted), 0))
    if importlib.util.find_spec("pytest") is None:
        result.notes.append("The pytest plug-in was skipped: pytest is not installed (pip install --group bench).")
    else:
        plugin = median(_plugin_milliseconds() for _ in range(options.pick(15, 3)))
        result.bars.append(Bar("the pytest plug-in, beyond pytest", plugin, PLUGIN_MILLISECONDS, unit=" ms"))
        result.data["plugin_milliseconds"] = plugin
    result.notes.append(
        f"An interpreter that imports nothing took {empty * 1000:.0f} ms. Besides what aiohttp alone pulls in, "
        f"the agent imports {len(set(ours) - set(modules['aiohttp']))} modules"
        + (f"; unwanted: {', '.join(unwanted)}" if unwanted else "")
        + "."
    )
    result.data.update(
        {"milliseconds": milliseconds, "modules": {name: len(measured) for name, measured in modules.items()}}
    )
    return result


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
