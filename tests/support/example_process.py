"""Runs an example as a user would: a real server process, real requests, SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from salesmachine_async.testing import Workspace

ROOT = Path(__file__).parent.parent.parent


def environment(workspace: Workspace, **more: str) -> dict[str, str]:
    return {**os.environ, **workspace.environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **more}


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], ready: str) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = ""
        self.ready = re.compile(ready)
        self._known = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._known.wait(30), "".join(self.said)
        assert self.url, "".join(self.said)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            found = self.ready.search(line)
            if found and not self.url:
                self.url = found[1]
                self._known.set()
        self._known.set()

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Make a request; returns status, body and cookie."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body, response.getheader("Set-Cookie", "")

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Wait until it has said so many lines that match."""
        for _ in range(600):
            if sum(bool(re.search(pattern, line)) for line in self.said) >= count:
                return
            time.sleep(0.05)
        raise AssertionError("".join(self.said))

    def end(self) -> str:
        """SIGTERM; returns all it has said."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._reader.join(30)
        return "".join(self.said)


@contextmanager
def served(
    workspace: Workspace, *command: str, ready: str = r"(http://127\.0\.0\.1:\d+)", **more: str
) -> Iterator[Served]:
    """Start ``python -m command``, which says on stdout or stderr where it listens."""
    with subprocess.Popen(
        [sys.executable, "-W", "always", "-m", *command],
        cwd=ROOT,
        env=environment(workspace, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield Served(process, ready)
        finally:
            if process.poll() is None:
                process.terminate()  # its workers would outlive a kill
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def run(workspace: Workspace, module: str, *, text: str = "", **more: str) -> str:
    """Run ``python -m module`` to its end; returns its output."""
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-m", module],
        cwd=ROOT,
        env=environment(workspace, **more),
        input=text,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout
