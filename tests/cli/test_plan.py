"""`salesmachine plan infer`, and `--plan` of the sandbox commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import serve
from tests.support.cli_inside import invoke
from tests.support.cli_process import run

LINES = [
    {"method": "event", "contact_uid": "1", "event_uid": "order", "params": {"amount": 1}},
    {"method": "contact", "contact_uid": "1", "params": {"email": "a@b.c"}},
]
PLAN = {
    "events": {"order": {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}},
    "contacts": {"type": "object", "properties": {"email": {"type": "string"}}},
}
TRACK = (sys.executable, "-m", "salesmachine_async", "track", "1", "order")


@pytest.mark.slow
async def test_a_plan_is_inferred_from_a_file_or_a_sandbox(tmp_path: Path) -> None:
    """The plan is the same, and problems of the source are one line."""
    file = tmp_path / "export.ndjson"
    text = "\n".join(map(json.dumps, LINES))
    file.write_text(text)
    ended = await run("plan", "infer", str(file))
    assert (ended.status, json.loads(ended.out)) == (0, PLAN)
    with serve() as sandbox:
        sandbox.replay(text.splitlines(), "token")
        ended = await run("plan", "infer", sandbox.url)
        assert (ended.status, json.loads(ended.out)) == (0, PLAN)
        sandbox.replay(text.splitlines(), "other")
        ended = await run("plan", "infer", sandbox.url)
        assert (ended.status, "2 workspaces" in ended.err) == (2, True)
    ended = await run("plan", "infer", "http://sandbox.example:8700")
    assert (ended.status, "set SALESMACHINE_ALLOW_HTTP=1" in ended.err) == (2, True)
    ended = await run("plan", "infer", "--allow-http", "--proxy", "http://127.0.0.1:1", "http://sandbox.example:8700")
    assert (ended.status, "refused" in ended.err) == (1, True)  # by the proxy: the name was not looked up
    ended = await run("plan", "infer", str(tmp_path / "none"))
    assert (ended.status, "No such file" in ended.err) == (1, True)
    file.write_text("{}")
    assert "line 1: method must be one of" in (await run("plan", "infer", str(file))).err


@pytest.mark.slow
async def test_exec_with_a_plan(tmp_path: Path) -> None:
    """The status is 1 when a message is bad, with the reason on stderr, and that of the command otherwise."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(PLAN))
    command = ("sandbox", "exec", "--plan", str(file), "--", *TRACK)
    assert (await run(*command, "amount:=1")).status == 0
    ended = await run(*command)
    assert ended.status == 1
    assert "bad: order: params: 'amount' is a required property" in ended.err
    failing = ("sandbox", "exec", "--plan", str(file), "--", sys.executable, "-c", "raise SystemExit(7)")
    assert (await run(*failing)).status == 7


@pytest.mark.slow
async def test_an_unusable_plan(tmp_path: Path) -> None:
    """A plan that cannot be used is a usage error that names the place."""
    file = tmp_path / "plan.json"
    file.write_text('{"events": {"x": {"type": "nothing"}}}')
    ended = await invoke("sandbox", "--plan", str(file))
    assert (ended.status, "events.x" in ended.err) == (2, True)
    assert (await invoke("sandbox", "--plan", str(tmp_path / "none"))).status == 2
    assert (await invoke("sandbox", "--name", "no label")).status == 2


def test_the_sandbox_class_takes_the_same_plan(tmp_path: Path) -> None:
    """The command and the class read the same file."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(PLAN))
    Sandbox(plan=file)
