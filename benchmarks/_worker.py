"""
A process of its own for each contestant, which runs functions of the benchmarks on demand.

The parent sends one JSON line ``{"call": "module:function", "args": {...}}`` and reads one JSON line back. So every
contestant has its own interpreter, imports only what is its own, and runs one round at a time, in turn
with the others.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from benchmarks._measure import MessageMissing

ROOT: Final = Path(__file__).resolve().parent.parent


class WorkerFailed(Exception):
    """A contestant's process ended, hung or raised."""


class Worker:
    """
    The parent's side of one such process.

    Args:
        name: Whose it is, for error messages.
        seed: For the hashes of texts. They decide how the keys of dicts collide, which changes the cost of a call by
            a tenth either way: rounds have different seeds, and all contestants of one round the same.
        env: Environment variables besides the parent's own.
    """

    def __init__(self, name: str, seed: int = 1, env: dict[str, str] | None = None) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # No warnings about clients that are meant to be abandoned.
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONWARNINGS": "ignore", **(env or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def call(self, function: str, *, timeout: float = 120.0, **args: Any) -> Any:
        """
        Run ``module:function`` there and return what it returned.

        Raises:
            MessageMissing: It raised that.
            WorkerFailed: It raised something else, ended, or took longer than *timeout* seconds.
        """
        self.begin(function, **args)
        return self.result(function, timeout)

    def begin(self, function: str, **args: Any) -> None:
        """Have ``module:function`` run there; `result` waits for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": f"benchmarks.{function}", "args": args}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(f"{self.name}: the process has ended\n{self._told()}") from None

    def result(self, function: str, timeout: float = 120.0) -> Any:
        """Wait for what `begin` began; raises as `call`."""
        assert self._process.stdout is not None
        answer = json.loads(_read_line(self._process.stdout, timeout) or b'{"error": "no answer"}')
        if "missing" in answer:
            raise MessageMissing(answer["missing"])
        if "error" in answer:
            self.close()
            raise WorkerFailed(f"{self.name}: {function}: {answer['error']}\n{self._told()}")
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _told(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:]


def _read_line(stream: BinaryIO | Any, timeout: float) -> bytes:
    """Read one line, or nothing when *timeout* seconds have passed or the stream has ended."""
    line = bytearray()
    deadline = time.monotonic() + timeout
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(stream.fileno(), 65536) if ready else b""
        if not chunk:
            return b""
        line += chunk
    return bytes(line)


def _serve() -> None:
    """Be such a process."""
    # Only answers may go to the real standard output; what libraries print goes to the errors.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answers.write(json.dumps(_answer(request["call"], request["args"])).encode() + b"\n")
        answers.flush()
    # Clients that were abandoned on purpose may have threads that never end.
    os._exit(0)


def _answer(call: str, args: dict[str, Any]) -> dict[str, Any]:
    try:
        module, _, name = call.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return {"value": function(**args)}
    except MessageMissing as exc:
        return {"missing": str(exc)}
    except Exception:  # noqa: BLE001 (reported to the parent)
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    _serve()
