"""The two quick benchmarks run, without a peer, and tell what they promise to tell. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.usefixtures("untraced"), pytest.mark.slow, pytest.mark.one_python]

ROOT = Path(__file__).resolve().parent.parent.parent


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", "--quick", "--json", "--no-peers", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def answer(module: str, *arguments: str) -> dict[str, Any]:
    done = run(module, *arguments)
    assert done.returncode == 0, done.stderr
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def test_the_cost_of_a_call_is_shown_beside_the_floor() -> None:
    """track_cost tells floor, call and their ratio, and one row for each way to call."""
    answered = answer("track_cost", "--messages", "300")
    # Which of them costs more is for the benchmark to say, on a quiet machine.
    assert min(answered["data"]["floor_ns"], answered["data"]["track_ns"], answered["data"]["ratio"]) > 0
    assert {name.split(", ")[0] for name in answered["data"]["cases"]} == {"track", "contact"}
    assert answered["environment"]["orjson"]


def test_the_cost_of_scrubbing_is_measured_beside_the_same_call_without_it() -> None:
    """scrub_cost has a figure for each agent and size, and all messages arrive."""
    figures = answer("scrub_cost", "--messages", "500")["data"]["ns"]
    assert {name.partition(": ")[0] for name in figures} == {"small", "2 KB"}
    assert {"without before_send", "scrub(one key, one pattern)"} <= {name.partition(": ")[2] for name in figures}
    assert min(figures.values()) > 0


def test_the_memory_of_a_message_is_shown_beside_its_wire_bytes() -> None:
    """queued_memory tells bytes per message for the floor and the agent, and the worst over the wire bytes."""
    answered = answer("queued_memory", "--messages", "500")
    assert set(answered["data"]["series"]) == {"floor", "salesmachine-async"}
    for series in answered["data"]["series"].values():
        assert [figures["messages"] for figures in series] == [500]
        assert series[0]["allocated"] >= series[0]["wire"] > 200
    assert answered["data"]["over_wire"] >= 1


def test_a_missing_message_fails_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """A contestant that loses a message ends the benchmark with exit status 1."""
    from benchmarks._cli import main
    from benchmarks._measure import require

    def ask(_options: object) -> Any:
        require("a client", "messages delivered", 100, 99)

    assert main(ask, "is everything there?", []) == 1
    assert "a client: messages delivered: expected 100, found 99" in capsys.readouterr().err
