"""gevent and eventlet: the application's own thread stays as it was, and every message is delivered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from salesmachine_async.testing import Workspace
from tests.support.example_process import ROOT, environment, served

pytestmark = pytest.mark.slow

GEVENT = "from gevent import monkey; monkey.patch_all()"
EVENTLET = "import eventlet; eventlet.monkey_patch()"
SCRIPT = """
import asyncio, sys, threading, time
from salesmachine_async import Batching, ThreadedAgent

agents = [ThreadedAgent(batching=Batching(max_messages=10)) for _ in range(2)]

def work(name):
    for number in range(50):
        for agent in agents:
            assert agent.track(name, "step", {"number": number})
        time.sleep(0)

threads = [threading.Thread(target=work, args=(f"u{number}",)) for number in range(20)]
for thread in threads:
    thread.start()

async def main():
    await asyncio.sleep(0.01)
    return "ran"

print(asyncio.run(main()))
for thread in threads:
    thread.join()
try:
    asyncio.get_running_loop()
except RuntimeError:
    print("no loop")
print(agents[0].flush().delivered)
print(asyncio.run(main()))
turns = []
ticker = threading.Thread(target=lambda: [(turns.append(1), time.sleep(0.001)) for _ in range(50)])
ticker.start()
for number in range(2000):
    agents[0].track("last", "step")
print(agents[0].close().delivered, len(turns) > 1)
agents[1].track("exit", "step")
"""


@pytest.mark.parametrize(("library", "patch"), [("gevent", GEVENT), ("eventlet", EVENTLET)])
def test_the_application_keeps_its_thread(workspace: Workspace, library: str, patch: str) -> None:
    """``asyncio.run`` works before, between and after; waiting lets other greenlets run; the exit delivers the rest."""
    pytest.importorskip(library)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{patch}\n{SCRIPT}"],
        cwd=ROOT,
        env=environment(workspace),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stdout.split("\n")[:-1], ended.stderr) == (
        0,
        ["ran", "no loop", "1000", "ran", "3000 True"],
        "",
    )
    assert workspace.summary()["events"] == 2000 + 2000 + 1
    assert workspace.summary()["duplicates"] == 0
    for number in range(20):
        steps = [event["params"]["number"] for event in workspace.events(contact_uid=f"u{number}")]
        assert sorted(steps) == sorted([*range(50)] * 2)


# Django itself fails with a database that was opened before gevent has patched the threads: no preload there.
@pytest.mark.parametrize(
    ("worker", "preload"), [("gevent", False), ("gthread", False), ("gthread", True), ("sync", False), ("sync", True)]
)
def test_django_under_gunicorn(workspace: Workspace, worker: str, preload: bool, tmp_path: Path) -> None:
    """The ORM, ``asyncio.run`` in a view, SIGTERM: answers as ever, and all that was tracked."""
    pytest.importorskip("gunicorn")
    if worker == "gevent":
        pytest.importorskip(worker)
    command = ("gunicorn", "-k", worker, "-b", "127.0.0.1:0", "--workers", "2", *["--preload"] * preload)
    more = {"DATABASE": str(tmp_path / "database"), "PYTHONWARNINGS": "ignore"}
    with served(workspace, *command, "tests.hosts.django_site:application", **more) as server:
        visited = 0
        for number in range(20):
            assert server.get(f"/orm/{number}/")[:2] == (200, str(number)), "".join(server.said)
            assert server.get(f"/loop/{number}/")[:2] == (200, "ran"), "".join(server.said)
            visited += 2
        said = server.end()
    assert "Traceback" not in said
    events = workspace.events()
    assert sorted(event["event_uid"] for event in events) == ["pageview"] * visited + ["visited"] * visited
    assert workspace.summary()["duplicates"] == 0


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "threads", "prefork"])
def test_celery(workspace: Workspace, pool: str, tmp_path: Path) -> None:
    """Twenty tasks, SIGTERM: each event once."""
    pytest.importorskip("celery")
    if pool in ("gevent", "eventlet"):
        pytest.importorskip(pool)
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "celeryconfig.py").write_text(
        f"broker_transport_options = {{'data_folder_in': {str(tmp_path / 'queue')!r}, "
        f"'data_folder_out': {str(tmp_path / 'queue')!r}, 'control_folder': {str(tmp_path / 'control')!r}, "
        "'polling_interval': 0.02}\nworker_hijack_root_logger = False\nbroker_connection_retry_on_startup = False\n"
    )
    more = {
        "CELERY_BROKER_URL": "filesystem://",
        "CELERY_CONFIG_MODULE": "celeryconfig",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "PYTHONWARNINGS": "ignore",
    }
    send = (
        "from examples.celery_worker import app, ship; app.config_from_object('celeryconfig'); "
        "[ship.delay(order) for order in range(20)]"
    )
    subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=environment(workspace, **more), check=True, timeout=30)
    command = f"celery -A tests.examples.celery_project worker --concurrency 2 --pool {pool} --loglevel INFO"
    quiet = "--without-gossip --without-mingle --without-heartbeat"
    with served(workspace, *command.split(), *quiet.split(), ready=r"(ready)", **more) as worker:
        workspace.wait_for("order_shipped", count=20, timeout=30)
        said = worker.end()
    assert "Traceback" not in said
    orders = [event["params"]["order"] for event in workspace.events()]
    assert sorted(orders) == list(range(20)), said
