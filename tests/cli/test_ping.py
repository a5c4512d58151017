"""`salesmachine ping`."""

import json
import re

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.cli.conftest import SECRET, TOKEN
from tests.support.cli_inside import invoke
from tests.support.cli_process import run


@pytest.mark.slow
async def test_ok(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Success is one line on stdout with the duration, and status 0."""
    ended = await run("ping", **keys)
    assert (ended.status, ended.err) == (0, "")
    assert re.fullmatch(rf"ok: {re.escape(sandbox.url)} accepts the key \(\d+ ms\)\n", ended.out)


async def test_json(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """--json prints one object, also after a failure."""
    ended = await invoke("ping", "--json", **keys)
    outcome = json.loads(ended.out)
    assert outcome == {"ok": True, "url": sandbox.url, "seconds": outcome["seconds"], "status": None, "error": None}
    sandbox.faults([Fault(status=500, times=None, body={"error": "broken"})])
    ended = await invoke("ping", "--json", **keys)
    assert ended.status == 5
    outcome = json.loads(ended.out)
    assert (outcome["ok"], outcome["status"], outcome["error"]) == (
        False,
        500,
        'the server answered 500. Server message: "broken"',
    )
    assert ended.err.startswith(
        f'salesmachine ping: error: {sandbox.url}: the server answered 500. Server message: "broken" ('
    )


async def test_refused(keys: dict[str, str]) -> None:
    """A rejected key has status 4; keys are removed from the text of the server."""
    async with Sandbox(tokens=["good"]) as sandbox:
        ended = await invoke("ping", **keys | {"SALESMACHINE_API_URL": sandbox.url})
        assert ended.status == 4
        assert "the server answered 401" in ended.err
        sandbox.faults([Fault(status=403, body={"error": f"bad key {TOKEN} {SECRET}"})])
        ended = await invoke("ping", **keys | {"SALESMACHINE_API_URL": sandbox.url})
    assert 'Server message: "bad key *** ***"' in ended.err


async def test_no_server() -> None:
    """An unreachable server has status 5 at once, with one line."""
    ended = await invoke("ping", SALESMACHINE_API_URL="http://127.0.0.1:1", SALESMACHINE_API_TOKEN="t")
    assert ended.status == 5
    assert ended.out == ""
    assert ended.err.startswith("salesmachine ping: error: http://127.0.0.1:1: the connection failed (")
    assert len(ended.err.splitlines()) == 1


async def test_no_answer(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A server that hangs is given up after --timeout."""
    sandbox.faults([Fault(latency=20)])
    ended = await invoke("ping", "--timeout", "0.2", **keys)
    assert ended.status == 5
    assert "no answer" in ended.err
