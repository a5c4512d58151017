"""The demo as a whole."""

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from salesmachine_async.sandbox import Sandbox
from tests.support.cli_inside import invoke
from tests.support.cli_process import end, run, start

pytestmark = [pytest.mark.slow, pytest.mark.one_python]


async def test_the_demo_passes() -> None:
    """With its own sandbox and faults the demo loses nothing, whatever the environment holds."""
    others = {"SALESMACHINE_PROXY": "http://127.0.0.1:1", "SALESMACHINE_ENABLED": "0"}
    ended = await run("demo", "--seconds", "1", NO_COLOR="1", **others)
    assert ended.status == 0, ended
    assert "PASSED: the sandbox holds exactly what the shop tracked." in ended.out
    assert "0 missing, 0 unexpected, 0 duplicated, 0 altered" in ended.out
    assert "Sent again after a cut-off answer" in ended.out
    assert "faults did not happen" not in ended.out
    for trouble in ("503 twice", "429, wait 1 s", "answer cut off"):
        assert trouble in ended.err
    assert "\x1b" not in ended.out + ended.err


async def test_another_sandbox() -> None:
    """A sandbox given by --url is compared too; --json prints one object."""
    async with Sandbox() as sandbox:
        ended = await run("demo", "--seconds", "1", "--url", sandbox.url, "--json")
        assert ended.status == 0, ended
        results = json.loads(ended.out)
        assert results["ok"] is True
        assert results["messages"]["lost"] == 0
        assert results["messages"]["accepted"] == sum(results["calls"].values()) > 0
        assert results["retries"] == 0
        assert results["read_back"]["events"] == len(sandbox.events())


class Thief:
    """A proxy that removes the last message of one batch and reports success."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.stolen: list[object] = []

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._forward)
        return app

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/v1/batch" and not self.stolen and "pageview" in str(json.loads(body)[-1]):
            *rest, stolen = json.loads(body)
            self.stolen.append(stolen)
            body = json.dumps(rest).encode()
        kept = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        async with (
            aiohttp.ClientSession() as http,
            http.request(request.method, self._url + request.path_qs, data=body, headers=kept) as answer,
        ):
            return web.Response(
                status=answer.status, body=await answer.read(), headers={"Content-Type": answer.headers["Content-Type"]}
            )


async def test_a_server_that_loses_one_message_fails_the_demo() -> None:
    """A message that a server accepted and lost is found and named: status 1."""
    async with Sandbox() as sandbox:
        thief = Thief(sandbox.url)
        async with TestServer(thief.app()) as server:
            ended = await run("demo", "--seconds", "1", "--url", str(server.make_url("/")))
    assert len(thief.stolen) == 1
    assert ended.status == 1, ended
    assert "1 missing, 0 unexpected, 0 duplicated, 0 altered" in ended.out
    assert "  missing: event pageview number" in ended.out
    assert "FAILED: " in ended.out


async def accept(_: web.Request) -> web.Response:
    return web.json_response({"status": "success"})


async def test_a_server_that_is_no_sandbox() -> None:
    """Without a comparison the verdict is based on the report of the agent."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/{call}", accept)
    async with TestServer(app) as server:
        ended = await run("demo", "--seconds", "1", "--url", str(server.make_url("/")), SALESMACHINE_API_TOKEN="t")
    assert ended.status == 0, ended
    assert "cannot be compared" in ended.out
    assert "PASSED: everything was delivered." in ended.out


async def test_no_credentials() -> None:
    """A server that is not a sandbox needs credentials, as one line of the error states."""
    async with TestServer(web.Application()) as server:
        ended = await invoke("demo", "--url", str(server.make_url("/")))
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.splitlines()[-1].startswith("salesmachine demo: error: ")
    assert "SALESMACHINE_API_TOKEN" in ended.err


async def test_refused_credentials() -> None:
    """Rejected credentials are an error before anything is tracked."""
    async with Sandbox(tokens=["good"]) as sandbox:
        ended = await invoke("demo", "--url", sandbox.url)
    assert ended.status == 1
    assert len(ended.err.splitlines()) == 2
    assert ended.err.splitlines()[-1].startswith("salesmachine demo: error: ")


async def test_dead_url() -> None:
    """A URL without a server is one clear line, without a traceback."""
    ended = await invoke("demo", "--url", f"http://127.0.0.1:{unused_port()}")
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.splitlines()[-1].startswith("salesmachine demo: error: the server at --url cannot be reached: ")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def needs_proc() -> None:
    """Children are found through /proc."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs Linux")


async def driving() -> tuple[asyncio.subprocess.Process, list[int]]:
    """Start a demo, and wait until it sends requests to its shop."""
    process = await start("demo", "--seconds", "60")
    assert process.stderr is not None
    while not (line := await process.stderr.readline()).startswith(b"Tracking into"):
        assert line, "the demo ended too early"
    pids = children(process.pid)
    assert len(pids) == 2
    return process, pids


@pytest.mark.usefixtures("needs_proc")
async def test_ctrl_c() -> None:
    """Ctrl-C ends it with status 130, without a traceback and without a child."""
    process, pids = await driving()
    process.send_signal(signal.SIGINT)
    ended = await end(process)
    assert ended == (130, "", "Interrupted.\n")
    assert not any(map(alive, pids))


@pytest.mark.usefixtures("needs_proc")
async def test_killed() -> None:
    """The children of a killed demo end, because their stdin ends."""
    process, pids = await driving()
    os.kill(process.pid, signal.SIGKILL)
    await end(process)
    assert pids
    while any(map(alive, pids)):  # bounded by the test's time-out
        await asyncio.sleep(0.01)
