"""The examples without a web framework: scripts and workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from salesmachine_async.testing import Workspace
from tests.support.example_process import ROOT, environment, run, served

pytestmark = [pytest.mark.slow, pytest.mark.one_python]


def test_the_script(workspace: Workspace) -> None:
    """A thousand steps."""
    assert run(workspace, "examples.script") == "1000 delivered\n"
    assert [event["params"]["number"] for event in workspace.events()] == list(range(1000))


def test_the_consumer(workspace: Workspace) -> None:
    """Every line of its input, in order, through a short outage."""
    workspace.faults(503)
    lines = "".join(f"u{number}\n" for number in range(3000))
    assert run(workspace, "examples.consumer", text=lines) == "3000 delivered\n"
    assert [event["contact_uid"] for event in workspace.events()] == lines.split()


def test_the_consumer_ends_at_sigterm(workspace: Workspace) -> None:
    """The consumer delivers what it has read, and ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.consumer"],
        cwd=ROOT,
        env=environment(workspace),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write("u1\nu2\n")
        process.stdin.flush()
        workspace.wait_for("line_read", count=2, timeout=30)
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.read() == "2 delivered\n"
    assert process.returncode == 0


def test_the_taskiq_worker(workspace: Workspace) -> None:
    """The agent lives from the worker's startup to its shutdown."""
    assert run(workspace, "examples.taskiq_worker") == "3 delivered\n"
    assert sorted(event["params"]["order"] for event in workspace.events()) == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="Celery does not fork there")
def test_the_celery_worker(workspace: Workspace, tmp_path: Path) -> None:
    """Two forked processes, twenty tasks, SIGTERM: each event once."""
    for name in ("queue", "done"):
        (tmp_path / name).mkdir()
    (tmp_path / "celeryconfig.py").write_text(
        f"broker_transport_options = {{'data_folder_in': {str(tmp_path / 'queue')!r}, "
        f"'data_folder_out': {str(tmp_path / 'queue')!r}, 'control_folder': {str(tmp_path / 'control')!r}, "
        "'polling_interval': 0.02}\n"
        "worker_hijack_root_logger = False\nbroker_connection_retry_on_startup = False\n"
    )
    more = {
        "CELERY_BROKER_URL": "filesystem://",
        "CELERY_CONFIG_MODULE": "celeryconfig",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
    }
    send = "from examples.celery_worker import app, ship; app.loader.config_from_object('celeryconfig'); "
    send += "app.config_from_object('celeryconfig'); [ship.delay(order) for order in range(20)]"
    subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=environment(workspace, **more), check=True, timeout=30)
    command = "celery -A tests.examples.celery_project worker --concurrency 2 --pool prefork --loglevel INFO"
    quiet = "--without-gossip --without-mingle --without-heartbeat"
    with served(workspace, *command.split(), *quiet.split(), ready=r"(ready)", **more) as worker:
        workspace.wait_for("order_shipped", count=1, timeout=30)
        said = worker.end()
    events = workspace.events()
    left = [json.loads(path.read_text()) for path in (tmp_path / "queue").iterdir()]
    # Which tasks had begun when the worker was stopped is up to its two processes.
    orders = {event["params"]["order"] for event in events}
    assert len(orders) == len(events) == 20 - len(left), said
    assert workspace.summary()["duplicates"] == 0
    assert "Traceback" not in said
