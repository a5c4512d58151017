"""A real taskiq worker: two processes, twenty tasks, SIGTERM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from salesmachine_async.testing import Workspace
from tests.support.example_process import ROOT, environment, served

pytestmark = pytest.mark.slow


def test_a_worker(workspace: Workspace, tmp_path: Path) -> None:
    """Each event once, also those of the last second."""
    pytest.importorskip("taskiq")
    more = {"TASKS": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    sent = [sys.executable, "-m", "tests.hosts.taskiq_project"]
    subprocess.run(sent, cwd=ROOT, env=environment(workspace, **more), check=True, timeout=60)
    command = ("taskiq", "worker", "tests.hosts.taskiq_project:broker", "--workers", "2")
    # From CPython 3.14 on, the workers are started by a fork server and do not log that they listen.
    with served(workspace, *command, ready=r"(Started process worker-1)", **more) as worker:
        worker.wait_for(r"^shipped \d+$", count=20)
        said = worker.end()
    assert "Traceback" not in said
    assert sorted(event["params"]["order"] for event in workspace.events()) == list(range(20)), said
    assert workspace.summary()["duplicates"] == 0
