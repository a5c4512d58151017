"""`salesmachine list`."""

import asyncio
import json
import re
import sys

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.cli.conftest import TOKEN
from tests.support.cli_inside import invoke
from tests.support.cli_process import environment, run
from tests.support.terminals import in_terminal

HOSTILE = "\x1b[31mred\x9b0m \u202egnp.exe \n[bold]second line[/] é日本"


def fill(sandbox: Sandbox, count: int, **params: object) -> None:
    lines = ({"method": "contact", "contact_uid": f"u{number}", "params": params} for number in range(count))
    sandbox.replay([json.dumps(line) for line in lines], TOKEN)


@pytest.mark.slow
async def test_piped(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """In a pipe each object is one line of JSON, as the API returns it, page after page."""
    fill(sandbox, 230, email="a@b.c")
    ended = await run("list", "contacts", "--order", "asc", **keys)
    assert (ended.status, ended.err) == (0, "")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["unique_id"] for row in rows] == [f"u{number}" for number in range(230)]
    assert rows[0]["data"] == {"email": "a@b.c"}


@pytest.mark.slow
async def test_the_reader_leaves(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """`| head -1` ends it with status 0 before the last page."""
    fill(sandbox, 2000, text="x" * 300)
    command = f"set -o pipefail; {sys.executable} -m salesmachine_async list contacts | head -n 1"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=pipe, stderr=pipe, env=environment(**keys)
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out)["object"] == "contact"
    assert len(sandbox.requests()) < 15


async def test_limit_offset_order(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """--limit counts objects over all pages; --offset and --order are those of the API."""
    fill(sandbox, 130)
    for limit, requests in ((3, 1), (120, 2), (1000, 2)):
        before = len(sandbox.requests())
        ended = await invoke("list", "contacts", "--limit", str(limit), **keys)
        assert len(ended.out.splitlines()) == min(limit, 130)
        assert len(sandbox.requests()) - before == requests
    ended = await invoke("list", "contacts", "--limit", "2", "--offset", "1", "--order", "asc", **keys)
    assert [json.loads(line)["unique_id"] for line in ended.out.splitlines()] == ["u1", "u2"]


async def test_json(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """--json prints one array for any number of pages."""
    ended = await invoke("list", "contacts", "--json", **keys)
    assert json.loads(ended.out) == []
    fill(sandbox, 101)
    ended = await invoke("list", "contacts", "--json", **keys)
    assert len(json.loads(ended.out)) == 101


async def test_an_array_that_was_cut_off(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """After a failed page the array has no end, so that no parser takes it for complete: status 5."""
    fill(sandbox, 30)
    sandbox.faults([Fault(times=1), Fault(status=500, times=None)])
    ended = await invoke("list", "contacts", "--json", "--timeout", "0.3", **keys)
    assert ended.status == 5
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(ended.out)
    assert "the server answered 500" in ended.err


async def test_filters(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """--status and --archived apply only to contacts and accounts."""
    fill(sandbox, 2)
    sandbox.replay([b'{"method": "contact", "contact_uid": "paying", "params": {"mrr": 9}}'], TOKEN)
    ended = await invoke("list", "contacts", "--status", "paying", **keys)
    assert [json.loads(line)["unique_id"] for line in ended.out.splitlines()] == ["paying"]
    ended = await invoke("list", "contacts", "--archived", **keys)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    ended = await invoke("list", "users", "--no-archived", **keys)
    assert ended.status == 2
    assert "apply only to contacts and accounts" in ended.err
    assert (await invoke("list", "contacts", "--json", "--ndjson", **keys)).status == 2
    assert (await invoke("list", "contacts", "--limit", "0", **keys)).status == 2


@pytest.mark.parametrize("kind", ["accounts", "notes", "activities", "tasks", "users"])
async def test_the_others(sandbox: Sandbox, keys: dict[str, str], kind: str) -> None:
    """Every list of the API can be listed."""
    ended = await invoke("list", kind, **keys)
    assert ended.status == 0
    assert all("id" in json.loads(line) for line in ended.out.splitlines())


async def test_refused(keys: dict[str, str]) -> None:
    """A rejected token has status 4 and is not in the message."""
    async with Sandbox(tokens=["good"]) as sandbox:
        ended = await invoke("list", "contacts", **keys | {"SALESMACHINE_API_URL": sandbox.url})
    assert ended.status == 4
    assert "check the token of the Access API (v2) and its scheme (--auth)" in ended.err
    assert TOKEN not in ended.err


async def test_no_server(keys: dict[str, str]) -> None:
    """An unreachable server is retried for --timeout: status 5."""
    ended = await invoke(
        "list", "contacts", "--timeout", "0.3", **keys | {"SALESMACHINE_API_URL": "http://127.0.0.1:1"}
    )
    assert ended.status == 5
    assert ended.out == ""


@pytest.mark.slow
async def test_no_answer(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A server that hangs is given up after --timeout, retries included."""
    sandbox.faults([Fault(latency=20, times=None)])
    ended = await asyncio.wait_for(invoke("list", "contacts", "--timeout", "0.7", **keys), 10)
    assert ended == (5, "", "salesmachine list: error: no answer within 0.7 s\n")


async def test_how_the_token_travels(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """--auth or its variable select how the token is sent."""
    for extra in (["--auth", "bearer"], ["--auth", "query"]):
        assert (await invoke("list", "users", *extra, **keys)).status == 0
    ended = await invoke("list", "users", **keys, SALESMACHINE_ACCESS_AUTH="nonsense")
    assert ended.status == 2


@pytest.mark.slow
async def test_on_a_terminal(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """The table is as wide as the terminal, cannot control it, and has one header."""
    fill(sandbox, 150, email="elon@teslamotors.com", name=HOSTILE)
    sandbox.replay([json.dumps({"method": "contact", "contact_uid": "\x1b[2J" * 9, "params": {"mrr": 1}})], TOKEN)
    status, text = await in_terminal("list", "contacts", extra=keys)
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = plain.splitlines()
    assert len(lines) == 152
    assert re.fullmatch(r"ID +UID +EMAIL +NAME +STAGE +CREATED", lines[0])
    assert [line for line in lines if line.startswith("ID ")] == lines[:1]
    assert all(re.match(r"[0-9a-f]{24}  ", line) for line in lines[1:])
    assert all(len(line) <= 80 for line in lines)
    for harmful in ("\x1b", "\x9b", "\u202e"):
        assert harmful not in plain
    assert "\\x1b" in plain


@pytest.mark.slow
async def test_a_narrow_terminal(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Columns without room are left out whole, and named below the table."""
    fill(sandbox, 2, email="elon@teslamotors.com", name="Elon")
    status, text = await in_terminal("list", "contacts", extra=keys | {"NO_COLOR": "1", "COLUMNS": "40"})
    assert status == 0
    header, *rows, hint, more = text.splitlines()
    assert header.split()[0] == "ID"
    assert all(len(line) <= 40 for line in (header, *rows))
    shown = set(header.split())
    hidden = {"ID", "UID", "EMAIL", "NAME", "STAGE", "CREATED"} - shown
    assert hidden
    note = f"{hint}{more}"
    assert all(name in note for name in hidden)
    assert "40 columns have no room for" in note


@pytest.mark.slow
async def test_nothing_on_a_terminal(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """An empty list is a note; NO_COLOR is followed."""
    assert await in_terminal("list", "notes", extra=keys | {"NO_COLOR": "1"}) == (0, "No matching notes.\n")


async def test_json_cannot_steer_a_terminal(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """JSON is escaped and keeps its meaning."""
    fill(sandbox, 1, name=HOSTILE)
    ended = await invoke("list", "contacts", **keys)
    assert json.loads(ended.out)["data"]["name"] == HOSTILE
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", ended.out)
    assert "é日本" in ended.out


@pytest.mark.slow
async def test_interrupted(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Ctrl-C has status 130 and no traceback."""
    fill(sandbox, 200)
    sandbox.faults([Fault(times=1), Fault(latency=20)])
    status, text = await in_terminal("list", "contacts", press=[("CREATED", "\x03")], extra=keys)
    assert status == 130
    assert text.endswith("Interrupted.\n")
    assert "Traceback" not in text
