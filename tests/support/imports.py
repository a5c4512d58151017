"""Helpers for tests of `salesmachine import`."""

from __future__ import annotations

import gzip
import json
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from salesmachine_async.sandbox import Fault, Sandbox
from tests.support.cli_inside import invoke_here
from tests.support.cli_process import Ended, popen


def keys(sandbox: Sandbox, token: str = "token") -> dict[str, str]:
    """Return the variables for a workspace of *sandbox*."""
    return {"SALESMACHINE_API_URL": sandbox.url, "SALESMACHINE_API_TOKEN": token}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as NDJSON, compressed if the name ends in .gz."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def events(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return numbered events of fifty contacts."""
    return [
        {"method": "event", "contact_uid": f"c{number % 50}", "event_uid": "e", "params": {"n": number}}
        for number in range(first, first + count)
    ]


def refuse_after(sandbox: Sandbox, batches: int, status: int) -> None:
    """Let the sandbox accept some batches and answer *status* to the others."""
    spared = Fault(path="/v1/batch", times=batches)
    sandbox.faults([spared, Fault(path="/v1/batch", status=status, times=None)])


def numbers(sandbox: Sandbox) -> list[int]:
    """Return the numbers of all events that arrived."""
    return sorted(event["params"]["n"] for event in sandbox.events(limit=100_000))


def run_import(*arguments: str, **env: str) -> Ended:
    """Run the command in this process."""
    return invoke_here("import", *arguments, **env)


def import_json(*arguments: object, **env: str) -> tuple[Ended, dict[str, Any]]:
    """Run the command with --json; return the parsed output too."""
    ended = run_import("--json", *map(str, arguments), **env)
    assert ended.out.count("\n") == 1, ended
    return ended, json.loads(ended.out)


def feed(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Write to the stdin of a process without closing it."""
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def until(something: Callable[[], object]) -> None:
    """Wait for a condition; the time limit of the test ends the wait."""
    while not something():
        time.sleep(0.02)


def interrupted(sandbox: Sandbox, file: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start an import, and wait until some rows have arrived."""
    process = popen("import", str(file), "--batch", "50", *arguments, **keys(sandbox))
    until(lambda: sandbox.summary()["events"] >= 200)
    return process
