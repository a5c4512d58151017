"""ASGI servers: each message of a scripted visit and of what lives at SIGTERM is delivered."""

from __future__ import annotations

import base64
import os
import socket
import time
from contextlib import closing
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest

from salesmachine_async.testing import Workspace
from tests.support.example_process import Served, served

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

APP = "tests.hosts.streaming_app:app"
GUNICORN = ("gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:0", "--graceful-timeout", "1")
SERVERS = {
    "uvicorn": ("uvicorn", "--port", "0", "--timeout-graceful-shutdown", "1"),
    "uvicorn-2": ("uvicorn", "--port", "0", "--workers", "2", "--timeout-graceful-shutdown", "1"),
    "uvicorn-reload": ("uvicorn", "--port", "0", "--reload", "--timeout-graceful-shutdown", "1"),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}"),
    "granian-2": ("granian", "--interface", "asgi", "--port", "{port}", "--workers", "2"),
    "hypercorn": ("hypercorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "1"),
    "gunicorn": GUNICORN,
    "gunicorn-preload": (*GUNICORN, "--preload"),
}


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        return int(found.getsockname()[1])


def command(name: str) -> tuple[str, ...]:
    module = SERVERS[name][0]
    if find_spec(module) is None or (module == "gunicorn" and find_spec("uvicorn_worker") is None):
        pytest.skip(f"{module} is not installed; the matrix has it")
    port = str(free_port())
    return (*(part.format(port=port) for part in SERVERS[name]), APP)


def wait_until_it_answers(server: Served) -> None:
    """Some servers say where they listen before they do."""
    for _ in range(400):
        try:
            assert server.get("/ready")[0] == 200
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("".join(server.said))


def connect(server: Served, request: str) -> socket.socket:
    """Send a request, and wait for the first data of the answer."""
    url = urlsplit(server.url)
    connection = socket.create_connection((url.hostname, url.port), timeout=20)
    connection.sendall(request.replace("\n", "\r\n").encode())
    received = b""
    while b"hello" not in received:
        part = connection.recv(4096)
        assert part, received
        received += part
    return connection


def stream(server: Served) -> socket.socket:
    return connect(server, "GET /stay HTTP/1.1\nHost: example.com\n\n")


def websocket(server: Served) -> socket.socket:
    key = base64.b64encode(os.urandom(16)).decode()
    return connect(
        server,
        "GET /stay HTTP/1.1\nHost: example.com\nConnection: Upgrade\nUpgrade: websocket\n"
        f"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: {key}\n\n",
    )


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("kind", [stream, websocket])
def test_what_lives_at_sigterm_tracks_to_its_end(workspace: Workspace, name: str, kind: object) -> None:
    """The clean-up of a handler runs through, and what it tracks is delivered, wherever the server can let it run."""
    assert callable(kind)
    if name.startswith("granian") and kind is stream:
        pytest.skip("granian waits for an open stream without a bound")
    with served(workspace, *command(name)) as server:
        wait_until_it_answers(server)
        if name == "granian-2":
            server.wait_for("Started worker-", count=2)  # it forgets a signal for a worker that has not started yet
        for _ in range(9):
            assert server.get("/")[0] == 200
        with kind(server):
            said = server.end()
    assert "AgentClosed" not in said
    names = [event["event_uid"] for event in workspace.events(contact_uid="u")]
    assert (names.count("opened"), names.count("closed")) == (11, said.count("cleaned up")), said
    assert said.count("cleaned up") >= 10, said
    assert workspace.summary()["duplicates"] == 0
