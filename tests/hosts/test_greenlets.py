"""gevent and eventlet: the application's own thread stays as it was, and every message is delivered."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from salesmachine_async.sandbox import Fault
from salesmachine_async.testing import Workspace
from tests.support.example_process import ROOT, Served, environment, served

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


LOGGING = """
import logging, sys, threading, time
from salesmachine_async import Batching, Retry, Spool, ThreadedAgent, Timeouts

logging.basicConfig(level=logging.DEBUG, stream=open(sys.argv[1], "w"))
logging.getLogger("salesmachine_async").setLevel(logging.DEBUG)
agent = ThreadedAgent(
    spool=Spool(sys.argv[2], commit=0.01), batching=Batching(linger=0), retry=Retry(wait_initial=0.01, wait_max=0.02)
)

def work(name):
    for number in range(500):
        logging.info("greenlet %d", name)
        agent.track(name, "step", {"number": number})
        if number % 50 == 0:
            agent.sync()
        time.sleep(0)

threads = [threading.Thread(target=work, args=(name,)) for name in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(agent.flush().delivered)
"""


@pytest.mark.parametrize(("library", "patch"), [("gevent", GEVENT), ("eventlet", EVENTLET)])
def test_the_threads_of_an_agent_log_while_greenlets_do(
    workspace: Workspace, library: str, patch: str, tmp_path: Path
) -> None:
    """No thread of an agent keeps a greenlet waiting for a lock of logging."""
    pytest.importorskip(library)
    workspace.faults(Fault(status=503, probability=0.5, seed=1, times=None))
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{patch}\n{LOGGING}", str(tmp_path / "log"), str(tmp_path / "spool")],
        cwd=ROOT,
        env=environment(workspace),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "5000\n"), ended.stderr
    assert "Traceback" not in ended.stderr
    lines = (tmp_path / "log").read_text() if library == "gevent" else ended.stderr
    assert "the server answered 503" in lines


def gunicorn(worker: str, *, preload: bool) -> tuple[str, ...]:
    """Return the command for two workers."""
    pytest.importorskip("gunicorn")
    if worker == "gevent":
        pytest.importorskip(worker)
    settings = ("-c", "python:tests.hosts.gunicorn_settings")
    return ("gunicorn", *settings, "-k", worker, "-b", "127.0.0.1:0", "--workers", "2", *["--preload"] * preload)


def log_in(server: Served) -> int:
    """Log in to Django's admin as a browser does; returns the status."""
    _, page, cookie = server.get("/admin/login/")
    assert "csrfmiddlewaretoken" in page, "".join(server.said)
    cookie = cookie.split(";")[0]
    token = cookie.removeprefix("csrftoken=")
    body = urlencode({"csrfmiddlewaretoken": token, "username": "boss", "password": "boss", "next": "/admin/"})
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/admin/login/", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


# Django itself fails with a database that was opened before gevent has patched the threads: no preload there.
@pytest.mark.parametrize(
    ("worker", "preload"), [("gevent", False), ("gthread", False), ("gthread", True), ("sync", False), ("sync", True)]
)
def test_django_under_gunicorn(workspace: Workspace, worker: str, preload: bool, tmp_path: Path) -> None:
    """The admin's login, the ORM, ``asyncio.run`` in a view, two agents, SIGTERM: answers as ever, all is delivered."""
    command = gunicorn(worker, preload=preload)
    more = {"DATABASE": str(tmp_path / "database"), "PYTHONWARNINGS": "ignore"}
    made = subprocess.run(
        [sys.executable, "-m", "tests.hosts.django_site"], cwd=ROOT, env=environment(workspace, **more), check=True
    )
    assert made.returncode == 0
    with served(workspace, *command, "tests.hosts.django_site:application", **more) as server:
        for number in range(20):
            assert server.get(f"/orm/{number}/")[:2] == (200, "1"), "".join(server.said)
            assert server.get(f"/loop/{number}/")[:2] == (200, "ran"), "".join(server.said)
            if number % 10 == 5:
                assert log_in(server) == 302, "".join(server.said)
        server.wait_for("worker is ready", count=2)
        said = server.end()
    assert "Traceback" not in said
    events = Counter(event["event_uid"] for event in workspace.events())
    assert events == {"pageview": 40, "visited": 40, "second": 40, "logged_in": 2}, said
    assert workspace.summary()["duplicates"] == 0


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_a_wsgi_application_under_gunicorn(workspace: Workspace, worker: str, preload: bool) -> None:
    """Twenty requests, SIGTERM: each event once, also those of the import, in the master or in each worker."""
    command = gunicorn(worker, preload=preload)
    more = {"TRACK_AT_IMPORT": "1", "PYTHONWARNINGS": "ignore"}
    with served(workspace, *command, "tests.hosts.wsgi_site:application", **more) as server:
        for number in range(20):
            assert server.get(f"/{number}")[0] == 200, "".join(server.said)
        server.wait_for("worker is ready", count=2)
        said = server.end()
    assert "Traceback" not in said
    paths = [event["params"]["path"] for event in workspace.events(contact_uid="u")]
    assert sorted(paths) == sorted(f"/{number}" for number in range(20)), said
    assert len(workspace.events(contact_uid="site")) == (5 if preload else 10)
    assert workspace.summary()["duplicates"] == 0


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "threads", "prefork"])
def test_celery(workspace: Workspace, pool: str, tmp_path: Path) -> None:
    """Twenty tasks with Django's ORM, ``asyncio.run`` and two agents, SIGTERM: each event once."""
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
        "DATABASE": str(tmp_path / "database"),
    }
    send = "from tests.hosts.celery_project import send; send(20)"
    subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=environment(workspace, **more), check=True, timeout=60)
    command = f"celery -A tests.hosts.celery_project worker --pool {pool} --loglevel INFO"
    # While a greenlet is in ``asyncio.run``, Django refuses the database to all others of its thread.
    command += f" --concurrency {1 if pool in ('gevent', 'eventlet') else 2}"
    quiet = "--without-gossip --without-mingle --without-heartbeat"
    with served(workspace, *command.split(), *quiet.split(), ready=r"(ready)", **more) as worker:
        worker.wait_for("succeeded in", count=20)
        said = worker.end()
    assert "Traceback" not in said
    for name in ("order_shipped", "second"):
        orders = [event["params"]["order"] for event in workspace.events() if event["event_uid"] == name]
        assert sorted(orders) == list(range(20)), said
    assert workspace.summary()["duplicates"] == 0
