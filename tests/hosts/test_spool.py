"""One spool for all processes of a host: workers are killed, and what they accepted is delivered by others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path

import pytest

from salesmachine_async._spool.survey import Survey
from salesmachine_async.sandbox import Fault
from salesmachine_async.testing import Workspace
from tests.hosts.test_asgi_servers import free_port
from tests.hosts.test_uwsgi import command as uwsgi
from tests.hosts.test_uwsgi import workers
from tests.support.example_process import ROOT, Served, environment, served
from tests.support.redis_servers import RedisServer, binary, servers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as POSIX has them"),
]

WORKERS = 4
WSGI = "tests.hosts.spooled_site:application"
ASGI = "tests.hosts.spooled_site:app"
GUNICORN = ("gunicorn", "-b", "127.0.0.1:0", "--workers", str(WORKERS), "--no-control-socket", "-k")
SERVERS = {
    "uvicorn": ("uvicorn", "--port", "0", "--workers", str(WORKERS), ASGI),
    "gunicorn-uvicorn-preload": (*GUNICORN, "uvicorn_worker.UvicornWorker", "--preload", ASGI),
    "gunicorn-sync-preload": (*GUNICORN, "sync", "--preload", WSGI),
    "gunicorn-gthread-preload": (*GUNICORN, "gthread", "--preload", WSGI),
    "gunicorn-gevent": (*GUNICORN, "gevent", WSGI),
    "gunicorn-gevent-preload": (*GUNICORN, "gevent", "--preload", WSGI),
}
# As in a pod, which has few workers.
POD = {
    "uvicorn": ("uvicorn", "--port", "0", ASGI),
    "gunicorn-gthread-preload": (*GUNICORN[:4], "2", *GUNICORN[5:], "gthread", "--preload", WSGI),
    "gunicorn-gevent": (*GUNICORN[:4], "1", *GUNICORN[5:], "gevent", WSGI),
}
# By process: the numbers of the events that it has confirmed.
Confirmed = dict[int, list[int]]


def need(*words: str) -> None:
    """Skip the test if a module is not installed that a command names."""
    for module in ("uvicorn", "gunicorn", "gevent", "uvicorn_worker", "celery", "redis"):
        if any(module in word for word in words) and find_spec(module) is None:
            pytest.skip(f"{module} is not installed; the matrix has it")


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    for _ in range(800):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def visit(server: Served, enough: Callable[[Confirmed], bool]) -> Confirmed:
    """Make requests until there are enough; returns what they have confirmed."""
    confirmed: Confirmed = defaultdict(list)

    def answered() -> bool:
        try:
            status, body, _ = server.get("/")
        except (OSError, HTTPException):  # the server does not listen yet, or a worker was killed with the connection
            return False
        assert status == 200, "".join(server.said)
        event = json.loads(body)
        confirmed[event["pid"]].append(event["n"])
        return enough(confirmed)

    for _ in range(4000):
        if answered():
            return confirmed
        if not confirmed:
            time.sleep(0.05)
    raise AssertionError(f"{confirmed}\n{''.join(server.said)}")


def living(path: Path) -> set[int]:
    """Return the processes whose directories are locked: by themselves, or by those who have adopted them."""
    return {found.owner["pid"] for found in Survey(path).directories() if found.live}


def kill(*processes: int) -> None:
    """Kill processes that may have ended."""
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def descendants(process: int) -> list[int]:
    """Return the children of a process, and theirs."""
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in map(str.split, found.splitlines())}
    family = [process]
    for each in family:
        family += [child for child, parent in parents.items() if parent == each]
    return family[1:]


def check_arrived(workspace: Workspace, confirmed: Confirmed) -> None:
    """Check that all has arrived that was confirmed, in the order of each process, and no event under two ids."""
    ids: dict[tuple[int, int], set[str | None]] = defaultdict(set)
    arrived: Confirmed = defaultdict(list)
    for event in workspace.events():
        pid, number = event["params"]["pid"], event["params"]["n"]
        ids[pid, number].add(event["message_id"])
        if number not in arrived[pid]:
            arrived[pid].append(number)
    for pid, numbers in confirmed.items():
        assert arrived[pid][: len(numbers)] == sorted(numbers) == [*range(len(numbers))]
        assert arrived[pid] == sorted(arrived[pid])
    assert max(map(len, ids.values())) == 1


def merged(*parts: Confirmed) -> Confirmed:
    """Put together what several visits have confirmed."""
    whole: Confirmed = defaultdict(list)
    for part in parts:
        for pid, numbers in part.items():
            whole[pid] += numbers
    return whole


@pytest.mark.one_python
@pytest.mark.parametrize("name", SERVERS)
def test_two_workers_are_killed(workspace: Workspace, tmp_path: Path, name: str, untraced: None) -> None:
    """
    The other workers and their successors deliver what two killed workers have confirmed.

    The API is away at first, then cuts connections after it has taken a request, then is well.
    """
    need(*SERVERS[name])
    preload = {"TRACK_AT_IMPORT": "1"} if "--preload" in SERVERS[name] else {}
    workspace.faults(Fault(status=503, times=None))
    more = {"SALESMACHINE_SPOOL": str(tmp_path), "PYTHONWARNINGS": "ignore", **preload}
    with served(workspace, *SERVERS[name], **more) as server:
        first = visit(server, lambda seen: len(seen) == WORKERS and min(map(len, seen.values())) > 3)
        assert living(tmp_path) >= {*first}
        kill(*[*first][:2])
        workspace.faults(
            Fault(status=503, probability=0.3, seed=1, times=None), Fault(drop="after", probability=0.3, times=None)
        )
        second = visit(server, lambda seen: len({*seen} - {*first}) == 2)
        confirmed = merged(first, second)
        if preload:
            # The master has written while it loaded the application, and children of it have ended.
            assert server.process.pid in living(tmp_path)
            confirmed[server.process.pid] = [*range(5)]
        workspace.faults()
        count = sum(map(len, confirmed.values()))
        until(lambda: len(workspace.events()) >= count, "".join(server.said))
        said = server.end()
    assert "Traceback" not in said
    check_arrived(workspace, confirmed)
    assert os.listdir(tmp_path) == ["quota.lock"]


@pytest.mark.parametrize("hooks", [(), ("--py-call-uwsgi-fork-hooks",), ("--lazy-apps",)], ids=" ".join)
def test_two_workers_of_uwsgi_are_killed(
    workspace: Workspace, tmp_path: Path, hooks: tuple[str, ...], untraced: None
) -> None:
    """Their successors deliver what they have confirmed; the master writes nothing that a worker inherits."""
    workspace.faults(Fault(status=503, times=None))
    where, statistics = f"127.0.0.1:{free_port()}", free_port()
    arguments = ("--http-socket", where, "-p", str(WORKERS), "--master", "--enable-threads", "--die-on-term", *hooks)
    module = ("--stats", f"127.0.0.1:{statistics}", "--module", WSGI)
    more = {"SALESMACHINE_SPOOL": str(tmp_path), "TRACK_AT_IMPORT": "1"}
    with served(workspace, "tests.hosts.execute", where, uwsgi(), *arguments, *module, **more) as server:
        first = visit(server, lambda seen: len(seen) == WORKERS and min(map(len, seen.values())) > 3)
        assert len([*tmp_path.glob("*/lock")]) == WORKERS + ("--py-call-uwsgi-fork-hooks" in hooks)
        kill(*[*first][:2])
        until(lambda: len(living(tmp_path) & {*first}) == 2, "the killed workers have left their directories")
        second = visit(server, lambda seen: len({*seen} - {*first}) == 2)
        workspace.faults()
        confirmed = merged(first, second)
        imported = 5 * ((WORKERS + 2) if "--lazy-apps" in hooks else 1)
        count = sum(map(len, confirmed.values())) + imported
        until(lambda: len(workspace.events()) >= count, "".join(server.said))
        # It hangs at SIGTERM while a worker loads the application.
        until(lambda: all(each["status"] == "idle" and each["apps"] for each in workers(statistics)), "")
        said = server.end()
    assert ("not written: uWSGI is about to fork" in said) == (not hooks)
    assert len(workspace.events("imported")) == imported
    assert workspace.summary()["duplicates"] == 0
    # The master ends without Python's exit callbacks: it may leave its directory, in which all has an outcome.
    with workspace.threaded_agent(spool=tmp_path) as agent:
        until(lambda: bool((stats := agent.stats().spool) and stats.searches), "all directories were looked at")
        assert agent.stats().recovered == 0
    assert os.listdir(tmp_path) == ["quota.lock"]


@pytest.mark.one_python
@pytest.mark.parametrize("name", POD)
def test_a_pod_that_is_deleted(workspace: Workspace, tmp_path: Path, name: str, untraced: None) -> None:
    """SIGTERM, and SIGKILL two seconds later, while the API is away: the next pod delivers all that was accepted."""
    need(*POD[name])
    workspace.faults(Fault(status=503, times=None))
    more = {"SALESMACHINE_SPOOL": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    with served(workspace, *POD[name], **more) as server:
        first = visit(server, bool)
        for _ in range(50):
            pid = json.loads(server.get("/fast")[1])["pid"]
            first.setdefault(pid, []).append(len(first.get(pid, ())))
        server.process.terminate()
        time.sleep(2)  # the grace period of the pod
        kill(server.process.pid, *descendants(server.process.pid))
        server.process.wait()
        until(lambda: not living(tmp_path), "the killed processes have left their directories")
    workspace.faults()
    with served(workspace, *POD[name], **more) as server:
        second = visit(server, bool)
        confirmed = merged(first, second)
        until(lambda: len(workspace.events()) >= sum(map(len, confirmed.values())), "".join(server.said))
        server.end()
    check_arrived(workspace, confirmed)
    assert workspace.summary()["duplicates"] == 0
    assert os.listdir(tmp_path) == ["quota.lock"]


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    """
    A broker for Celery, whose children then have a queue each.

    With a broker of files they share one, and a child that is killed while it waits may keep the lock of that.
    """
    yield from servers("valkey" if binary("valkey") else "redis")


@pytest.mark.one_python
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_processes_of_celery_are_killed(
    workspace: Workspace, tmp_path: Path, broker: RedisServer, pool: str, untraced: None
) -> None:
    """Two children of the pool prefork are killed, or the whole worker; the others or the next one deliver."""
    need("celery", "redis", pool)
    spool = tmp_path / "spool"
    (tmp_path / "celeryconfig.py").write_text(
        "worker_hijack_root_logger = broker_connection_retry_on_startup = False\n"
    )
    more = {
        "CELERY_BROKER_URL": broker.url.replace("unix:", "redis+socket:"),
        "CELERY_CONFIG_MODULE": "celeryconfig",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "PYTHONWARNINGS": "ignore",
        "SALESMACHINE_SPOOL": str(spool),
    }
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
    worker = ("celery", "-A", "tests.hosts.spooled_tasks", "worker", "--pool", pool, "--concurrency", "4", *quiet)

    def send(count: int, *, ends: bool = False) -> None:
        code = f"from tests.hosts.spooled_tasks import send; send({count}, ends={ends})"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(workspace, **more), check=True)

    def confirmed_by(server: Served, count: int) -> Confirmed:
        """Wait until a worker has confirmed so many events; returns them."""
        server.wait_for("confirmed", count=count)
        confirmed: Confirmed = defaultdict(list)
        for line in re.findall(r"confirmed (\{.*\})", "".join(server.said)):
            event = json.loads(line)
            confirmed[event["pid"]].append(event["n"])
        return confirmed

    workspace.faults(Fault(status=503, times=None))
    with served(workspace, *worker, ready="(ready)", **more) as server:
        send(30)
        confirmed_by(server, 30)
        send(2 if pool == "prefork" else 1, ends=True)
        if pool == "prefork":
            server.wait_for("SIGKILL", count=2)
            send(20)
            confirmed = confirmed_by(server, 52)
            workspace.faults()
            server.end()
        else:
            server.process.wait(30)
            confirmed = confirmed_by(server, 31)
    workspace.faults()
    with served(workspace, *worker, ready="(ready)", **more) as server:
        send(4)
        confirmed = merged(confirmed, confirmed_by(server, 4))
        until(lambda: len(workspace.events()) >= sum(map(len, confirmed.values())), "".join(server.said))
        server.end()
    for numbers in confirmed.values():
        numbers.sort()
    check_arrived(workspace, confirmed)
    assert workspace.summary()["duplicates"] == 0
    assert os.listdir(spool) == ["quota.lock"]


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="forks are not to be relied on there")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_are_killed(
    workspace: Workspace, tmp_path: Path, method: str, untraced: None
) -> None:
    """What two killed children and two that ended have left is delivered by the next process, with the parent's."""
    workspace.faults(Fault(status=503, times=None))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.hosts.spooled_children", method],
        cwd=ROOT,
        env=environment(workspace, SALESMACHINE_SPOOL=str(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        assert found["ends"] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
        # The lock of the parent outlives its children, whose directories are left.
        assert living(tmp_path) == {found["parent"]}
        assert len([*tmp_path.glob("*/lock")]) == 5
        process.communicate("\n", timeout=30)
    workspace.faults()
    with workspace.threaded_agent(spool=tmp_path) as agent:
        until(lambda: len(workspace.events()) == 250, "everything arrives")
    assert agent.stats().recovered == 250
    check_arrived(workspace, {pid: [*range(50)] for pid in (found["parent"], *found["children"])})
    assert workspace.summary()["duplicates"] == 0
    assert os.listdir(tmp_path) == ["quota.lock"]


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_process_of_greenlets_is_killed(workspace: Workspace, tmp_path: Path, library: str, untraced: None) -> None:
    """A greenlet that waits for the disk lets others run, and the next process delivers what all have confirmed."""
    pytest.importorskip(library)

    def run(what: str) -> dict[str, object]:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.hosts.spooled_greenlets", library, what],
            cwd=ROOT,
            env=environment(workspace, SALESMACHINE_SPOOL=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert ended.returncode == (-signal.SIGKILL if what == "write" else 0), ended.stderr
        assert "Traceback" not in ended.stderr
        found: dict[str, object] = json.loads(ended.stdout)
        return found

    workspace.faults(Fault(status=503, times=None))
    written = run("write")
    assert (written["delivered"], written["state"]) == (0, "open")
    assert isinstance(written["turns"], int)
    assert written["turns"] > 20
    workspace.faults()
    assert run("recover") == {"recovered": 400}
    check_arrived(workspace, {name: [*range(20)] for name in range(20)})
    assert workspace.summary()["duplicates"] == 0
    assert os.listdir(tmp_path) == ["quota.lock"]
