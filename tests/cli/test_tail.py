"""`salesmachine tail`: the live stream of a sandbox."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from salesmachine_async.sandbox import Fault, Sandbox
from tests.support.cli_inside import invoke
from tests.support.cli_process import end, start
from tests.support.terminals import in_terminal


async def follow(*options: str, **keys: str) -> asyncio.subprocess.Process:
    """Start the command, and wait until it is connected."""
    process = await start("tail", *options, **keys)
    assert process.stderr is not None
    assert (await process.stderr.readline()).startswith(b"Following http://127.0.0.1:")
    return process


@pytest.mark.slow
async def test_messages(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Each message is one line of JSON, in order; --count ends it with 0."""
    process = await follow("--count", "3", **keys)
    await invoke("contact", "1", "name=Zoé\x1b[2J", **keys)
    await invoke("track", "1", "order_paid", "total:=49.9", **keys)
    await invoke("alias", "1", "one", **keys)
    ended = await end(process)
    assert ended.status == 0, ended
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["method"] for line in lines] == ["contact", "event", "alias"]
    assert lines[0]["params"] == {"name": "Zoé\x1b[2J"}
    assert (lines[1]["event_uid"], lines[1]["params"]) == ("order_paid", {"total": 49.9})
    assert "\x1b" not in ended.out


@pytest.mark.slow
async def test_only_the_workspace_of_the_token(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """With a token only its workspace is followed, without one all are."""
    others = keys | {"SALESMACHINE_API_TOKEN": "other"}
    one = await follow("--count", "1", **keys)
    every = await follow("--count", "2", SALESMACHINE_API_URL=sandbox.url)
    await invoke("contact", "theirs", **others)
    await invoke("contact", "ours", **keys)
    assert json.loads((await end(one)).out)["contact_uid"] == "ours"
    uids = [json.loads(line)["contact_uid"] for line in (await end(every)).out.splitlines()]
    assert uids == ["theirs", "ours"]


@pytest.mark.slow
async def test_requests(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A rejected request is printed with its reason; --requests prints the others too."""
    sandbox.faults([Fault(status=422, body={"error": "no"}), Fault(times=None)])
    rejected, every = await follow("--count", "1", **keys), await follow("--count", "1", "--requests", **keys)
    await invoke("ping", **keys)
    await invoke("ping", **keys)
    await asyncio.sleep(0)
    while len(sandbox.requests()) < 2:
        await asyncio.sleep(0.01)
    await invoke("contact", "1", **keys)
    first = [json.loads(line) for line in (await end(rejected)).out.splitlines()]
    assert [line["status"] for line in first if "path" in line] == [422]
    second = [json.loads(line) for line in (await end(every)).out.splitlines()]
    assert [line["status"] for line in second if "path" in line][:2] == [422, 200]


@pytest.mark.slow
async def test_on_a_terminal(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """On a terminal each message is a short line, which cannot control it."""
    shown = asyncio.create_task(in_terminal("tail", "--count", "1", extra=keys | {"NO_COLOR": "1", "COLUMNS": "200"}))
    while not shown.done():
        # The command follows messages from its connection on.
        await invoke("track", "123456", "order_paid", "name=Zo\x1b[2J", **keys)
    status, text = await shown
    assert status == 0, text
    first, second = text.splitlines()
    assert first.startswith("Following http://127.0.0.1:")
    assert second.split()[1:4] == ["event", "123456", "order_paid"]
    assert second.endswith('{"name": "Zo\\u001b[2J"}')


@pytest.mark.slow
async def test_a_sandbox_that_stops(keys: dict[str, str]) -> None:
    """The end of the sandbox ends the command with 0."""
    async with Sandbox() as sandbox:
        process = await follow(**keys | {"SALESMACHINE_API_URL": sandbox.url})
    ended = await end(process)
    assert (ended.status, ended.out) == (0, "")
    assert "the sandbox has stopped" in ended.err


async def test_no_sandbox() -> None:
    """A server that is not reached has status 5, one that is not a sandbox 4, an unusable URL 2."""
    ended = await invoke("tail", SALESMACHINE_API_URL="http://127.0.0.1:1")
    assert (ended.status, ended.out) == (5, "")
    assert ended.err.startswith("salesmachine tail: error: ")
    async with TestServer(web.Application()) as server:
        ended = await invoke("tail", SALESMACHINE_API_URL=str(server.make_url("")))
    assert ended.status == 4
    assert "is not a sandbox, or rejects the token (HTTP 404)" in ended.err
    ended = await invoke("tail", SALESMACHINE_API_URL="http://sandbox:8700")
    assert (ended.status, "--allow-http" in ended.err) == (2, True), ended
