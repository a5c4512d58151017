"""What it was measured on, without a word about where or by whom."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

RUNTIME = ("aiohttp", "orjson", "anyio", "backoff", "uvloop")


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, str]:
    """Return interpreter, system, processor and the versions of what the agent runs on."""
    measured = {
        platform.python_implementation(): platform.python_version(),
        platform.system(): platform.release().split("-")[0],
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "salesmachine-async": version("salesmachine-async") or "from source",
    }
    return measured | {name: found for name in RUNTIME if (found := version(name))}


def _processor() -> str:
    """Return the processor's name as Linux tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip() not in ("", "unknown"):
                return value.strip()
    return platform.machine()
