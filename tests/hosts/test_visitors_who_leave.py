"""A visitor leaves in the middle of an upload or an answer, or types in too much: the same record with every server."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest

from salesmachine_async.testing import Workspace
from tests.hosts.test_asgi_servers import free_port
from tests.support.example_process import Served, served

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

SITES = "tests.hosts.visited_sites"
APP = "tests.hosts.visited_site:app"
OWN = (SITES, "{site}")  # wsgiref, or the server of aiohttp
GUNICORN = ("gunicorn", "-b", "127.0.0.1:0", "--threads", "2", "-k")
WSGI = {
    "own": OWN,
    "gunicorn-sync": (*GUNICORN, "sync", APP),
    "gunicorn-gthread": (*GUNICORN, "gthread", APP),
    "gunicorn-gevent": (*GUNICORN, "gevent", APP),
}
ASGI = {
    "uvicorn": ("uvicorn", "--port", "0", APP),
    "hypercorn": ("hypercorn", "--bind", "127.0.0.1:{port}", APP),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}", APP),
}
HOSTS = [
    *((name, command, site) for name, command in WSGI.items() for site in ("plain", "flask", "django_wsgi")),
    *((name, command, site) for name, command in ASGI.items() for site in ("starlette", "fastapi", "litestar")),
    *((name, command, "django_asgi") for name, command in ASGI.items()),
    ("own", OWN, "aiohttp"),
]

UPLOAD = """POST /upload HTTP/1.1
Host: example.com
Content-Type: application/json
Content-Length: 90000

[1, """
STREAM = """GET /stream HTTP/1.1
Host: example.com

"""


def filled_in(command: tuple[str, ...], site: str) -> list[str]:
    """Return the command for a site; skip where the server or the framework is not installed."""
    needed = {command[0], site.partition("_")[0], *{"gevent"}.intersection(command)} - {SITES, "plain"}
    for module in sorted(needed):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed; the matrix has it")
    return [part.format(site=site, port=free_port()) for part in command]


def connect(server: Served, request: str) -> socket.socket:
    """Send the beginning of a request. Some servers say where they listen before they do."""
    url = urlsplit(server.url)
    for _ in range(400):
        try:
            connection = socket.create_connection((url.hostname, url.port), timeout=20)
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            connection.sendall(request.replace("\n", "\r\n").encode())
            return connection
    pytest.fail("".join(server.said))


@pytest.mark.parametrize(
    ("command", "site"), [each[1:] for each in HOSTS], ids=[f"{name}-{site}" for name, _, site in HOSTS]
)
def test_what_is_recorded(workspace: Workspace, command: tuple[str, ...], site: str) -> None:
    """`aborted`, without a status that was not received; a message that cannot be sent is no error of the request."""
    expected: list[dict[str, object]] = [
        {"visit_url": "/upload", "method": "POST", "aborted": True},
        {"visit_url": "/stream", "method": "GET", "aborted": True, "status": 200},
        {"visit_url": "/feedback", "method": "GET", "status": 200},
    ]
    if site == "django_asgi":
        del expected[0]  # Django reads the body before it knows the route; without one there is no pageview
    with served(workspace, *filled_in(command, site), SITE=site) as server:
        connect(server, UPLOAD).close()
        with connect(server, STREAM) as stream:
            received = b""
            while b"hello" not in received:
                part = stream.recv(4096)
                assert part, received
                received += part
        assert server.get("/feedback")[0] == 200
        found = workspace.wait_for("pageview", contact_uid="u", count=len(expected), timeout=20)
        said = server.end()
    pages = [{key: value for key, value in event["params"].items() if key != "duration"} for event in found]
    assert sorted(pages, key=str) == sorted(expected, key=str), said
    assert len(workspace.events(contact_uid="u")) == len(expected), said


READ_THE_BEGINNING = """
async () => (await (await fetch("/stream")).body.getReader().read()).value.length
"""


@pytest.mark.parametrize("site", ["starlette", "aiohttp"])
async def test_a_tab_of_a_browser_is_closed(workspace: Workspace, site: str) -> None:
    """The stream that it read is recorded as aborted, with the status that it got."""
    playwright = pytest.importorskip("playwright.async_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium")
    command = filled_in(OWN if site == "aiohttp" else ASGI["uvicorn"], site)
    with served(workspace, *command, SITE=site) as server:
        async with playwright.async_playwright() as player:
            browser = await player.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            tab = await browser.new_page()
            await tab.goto(f"{server.url}/feedback")
            assert await tab.evaluate(READ_THE_BEGINNING) > 0
            await tab.close()
            await workspace.wait_for_async("pageview", visit_url="/stream", aborted=True, status=200, timeout=20)
            await browser.close()
        await asyncio.to_thread(server.end)
