"""uWSGI, which forks in C: with its fork hooks and without, with the application loaded before the fork and after."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from salesmachine_async.testing import Workspace
from tests.hosts.test_asgi_servers import free_port, wait_until_it_answers
from tests.support.example_process import served

pytestmark = pytest.mark.slow


def command() -> str:
    found = shutil.which("uwsgi", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("uWSGI is not installed; the matrix has it")
    return found


@pytest.mark.parametrize(
    "options",
    [
        ("--enable-threads",),
        ("--enable-threads", "--py-call-uwsgi-fork-hooks"),
        ("--enable-threads", "--lazy-apps"),
        (),
    ],
)
def test_a_visit(workspace: Workspace, options: tuple[str, ...]) -> None:
    """Twenty requests, SIGTERM: each event once; without threads a line says what to do."""
    where = f"127.0.0.1:{free_port()}"
    arguments = ("--http-socket", where, "--master", "-p", "2", "--die-on-term", "--need-app", *options)
    module = ("--module", "tests.hosts.wsgi_site:application")
    with served(workspace, "tests.hosts.execute", where, command(), *arguments, *module) as server:
        wait_until_it_answers(server)
        for number in range(20):
            assert server.get(f"/{number}")[0] == 200, "".join(server.said)
        if options:
            workspace.wait_for("visited", count=21, timeout=30)  # a worker may end without its exit callbacks
        said = server.end()
    assert ("Start it with --enable-threads" in said) is (options == ())
    if options == ():
        return
    paths = [event["params"]["path"] for event in workspace.events() if event["event_uid"] == "visited"]
    assert sorted(set(paths) - {"/ready"}) == sorted(f"/{number}" for number in range(20)), said
    assert len(paths) == 21
    assert workspace.summary()["duplicates"] == 0
