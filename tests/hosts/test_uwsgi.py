"""uWSGI, which forks in C: with its fork hooks and without, with the application loaded before the fork and after."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async.testing import Workspace
from tests.hosts.test_asgi_servers import free_port, wait_until_it_answers
from tests.support.example_process import Served, served

pytestmark = pytest.mark.slow

THREADS = "--enable-threads"
HOOKS = "--py-call-uwsgi-fork-hooks"
MASTER = "--master"
WORKERS = 2


def command() -> str:
    found = shutil.which("uwsgi", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("uWSGI is not installed; the matrix has it")
    return found


def workers(port: int) -> list[dict[str, Any]]:
    """Return what uWSGI's statistics say of its workers."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        received = b""
        while part := connection.recv(65536):
            received += part
    found: list[dict[str, Any]] = json.loads(received)["workers"]
    return found


def wait_until_idle(server: Served, port: int, requests: int) -> None:
    """
    Wait until all workers have loaded the application and are done with so many requests.

    uWSGI ends a worker that is busy without Python's exit callbacks, and one that still loads with the whole instance.
    """
    for _ in range(400):
        found = workers(port)
        if (
            sum(worker["requests"] for worker in found) == requests
            and len(found) == WORKERS
            and all(worker["apps"] and worker["status"] == "idle" for worker in found)
        ):
            return
        time.sleep(0.05)
    pytest.fail("".join(server.said))


@pytest.mark.parametrize("imported", [0, 5])
@pytest.mark.parametrize(
    "options",
    [
        (MASTER, THREADS),
        (MASTER, THREADS, HOOKS),
        (MASTER, THREADS, "--lazy-apps"),
        (MASTER, THREADS, "--threads", "2"),
        (MASTER, THREADS, "--skip-atexit-teardown"),
        (THREADS,),
    ],
    ids=" ".join,
)
def test_a_visit(workspace: Workspace, options: tuple[str, ...], imported: int) -> None:
    """Twenty requests, SIGTERM: each event once, also those of the import."""
    where, statistics = f"127.0.0.1:{free_port()}", free_port()
    arguments = ("--http-socket", where, "-p", str(WORKERS), "--die-on-term", "--need-app", *options)
    module = ("--stats", f"127.0.0.1:{statistics}", "--module", "tests.hosts.wsgi_site:application")
    more = {"TRACK_AT_IMPORT": "1"} if imported else {}
    with served(workspace, "tests.hosts.execute", where, command(), *arguments, *module, **more) as server:
        wait_until_it_answers(server)
        for number in range(20):
            assert server.get(f"/{number}")[0] == 200, "".join(server.said)
        wait_until_idle(server, statistics, 21)
        said = server.end()
    paths = [event["params"]["path"] for event in workspace.events(contact_uid="u")]
    assert sorted(paths) == sorted(["/ready", *(f"/{number}" for number in range(20))]), said
    numbers = [event["params"]["number"] for event in workspace.events(contact_uid="site")]
    assert sorted(numbers) == sorted([*range(imported)] * (WORKERS if "--lazy-apps" in options else 1)), said
    assert workspace.summary()["duplicates"] == 0


def test_without_threads_a_line_says_what_to_do(workspace: Workspace) -> None:
    """uWSGI runs none of Python's."""
    where = f"127.0.0.1:{free_port()}"
    arguments = ("--http-socket", where, MASTER, "--die-on-term", "--module", "tests.hosts.wsgi_site:application")
    with served(workspace, "tests.hosts.execute", where, command(), *arguments) as server:
        wait_until_it_answers(server)
        said = server.end()
    assert "Start it with --enable-threads" in said
