"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks._machine import environment
from benchmarks._measure import MessageMissing
from benchmarks._result import Result
from benchmarks._worker import WorkerFailed

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Options:
    """
    How thoroughly to measure.

    Attributes:
        quick: Fewer rounds, shorter runs.
        messages: Messages in one round, instead of the benchmark's own number.
        peers: Whether to measure peers too.
    """

    quick: bool = False
    messages: int | None = None
    peers: bool = True

    def count(self, full: int, quick: int) -> int:
        """Return how many messages a round has."""
        return self.messages or (quick if self.quick else full)

    def pick(self, full: _T, quick: _T) -> _T:
        """Return the one that suits."""
        return quick if self.quick else full


def parser(description: str) -> argparse.ArgumentParser:
    """Return what understands the arguments that all have."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--quick", action="store_true", help="fewer rounds, shorter runs")
    arguments.add_argument("--json", action="store_true", help="print JSON")
    arguments.add_argument("--no-peers", action="store_true", help="measure only the agent and the floor")
    arguments.add_argument("--strict", action="store_true", help="exit with 2 when a bar is missed")
    arguments.add_argument("--messages", type=int, metavar="N", help="messages in one round")
    return arguments


def options(parsed: argparse.Namespace) -> Options:
    """Return what the common arguments ask for."""
    return Options(quick=parsed.quick, messages=parsed.messages, peers=not parsed.no_peers)


def main(ask: Callable[[Options], Result], description: str, argv: Sequence[str] | None = None) -> int:
    """
    Ask one question and print the answer.

    Returns:
        The exit status: 1 when a message is missing or a contestant failed, 2 when a bar is missed under --strict.
    """
    parsed = parser(description).parse_args(argv)
    try:
        result = ask(options(parsed))
    except (MessageMissing, WorkerFailed) as exc:
        print(f"FAILED: {exc}", file=sys.stderr)
        return 1
    if parsed.json:
        print(json.dumps({"environment": environment(), **result.as_json()}))
    else:
        print(result.as_text())
        print("measured on:", ", ".join(f"{name} {value}" for name, value in environment().items()))
    return 2 if parsed.strict and not all(bar.met for bar in result.bars) else 0
