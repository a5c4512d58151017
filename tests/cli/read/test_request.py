"""`salesmachine request`."""

import json
from pathlib import Path

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.cli.conftest import TOKEN
from tests.support.cli_inside import invoke
from tests.support.cli_process import run


@pytest.mark.slow
async def test_get(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """The body goes to stdout; the query may be in the path or in --param."""
    ended = await run("request", "get", "/v2/Users?limit=1", "--param", "order=asc", **keys)
    assert (ended.status, ended.err) == (0, "")
    (user,) = json.loads(ended.out)["data"]
    assert user["email"] == "john@example.com"


async def test_post(sandbox: Sandbox, keys: dict[str, str], tmp_path: Path) -> None:
    """The body is an argument, a file or stdin."""
    file = tmp_path / "note.json"
    file.write_text('{"body": "of a file"}')
    for data, stdin in (('{"body": "typed"}', ""), (f"@{file}", ""), ("-", '{"body": "of stdin"}')):
        ended = await invoke("request", "POST", "/v2/Notes", "-d", data, stdin=stdin, **keys)
        assert ended.status == 0
        assert json.loads(ended.out)["body"] in ("typed", "of a file", "of stdin")
    ended = await invoke("list", "notes", **keys)
    assert len(ended.out.splitlines()) == 3


async def test_include(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """-i prints status and headers before the body, also of a rejection."""
    ended = await invoke("request", "GET", "/v2/Users", "-i", "-H", "X-Own: 1", **keys)
    head, _, body = ended.out.partition("\n\n")
    assert head.startswith("HTTP 200\n")
    assert "\nContent-Type: application/json" in head
    assert json.loads(body)["object"] == "user.list"
    ended = await invoke("request", "GET", "/v2/Nothing", "-i", **keys)
    assert ended.status == 4
    assert ended.out == "HTTP 404\n\n"
    assert "the server answered 404: the object does not exist." in ended.err


@pytest.mark.parametrize(("status", "code"), [(302, 4), (400, 4), (401, 4), (409, 4), (429, 5), (500, 5), (503, 5)])
async def test_status(sandbox: Sandbox, keys: dict[str, str], status: int, code: int) -> None:
    """The exit status follows that of the answer."""
    sandbox.faults([Fault(status=status, times=None)])
    ended = await invoke("request", "POST", "/v2/Notes", "-d", "{}", "--timeout", "0.2", **keys)
    assert (ended.status, ended.out) == (code, "")


async def test_v1_needs_no_v2_token(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Paths below /v1/ get the API token, and need no other."""
    ours = {name: value for name, value in keys.items() if name != "SALESMACHINE_ACCESS_TOKEN"}
    ended = await invoke("request", "POST", "/v1/ping", **ours)
    assert ended == (0, '{"status":"success"}\n', "")
    assert (await invoke("request", "GET", "/v2/Users", **ours)).status == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["GET", "v2/Users"],
        ["GET", "//elsewhere/v2"],
        ["FETCH", "/v2/Users"],
        ["GET", "/v2/Users", "-p", "limit"],
        ["GET", "/v2/Users?limit=1", "-p", "limit=2"],
        ["POST", "/v2/Notes", "-d", '{"body'],
        ["POST", "/v2/Notes", "-d", "-", "--credentials", "-"],
        ["GET", "/v2/Users", "-H", "nonsense-qwertyuiop"],
        ["GET", "/v2/Users", "-H", "authorization: Basic secret-qwertyuiop"],
        ["GET", "/v2/Users", "-H", "X: a\x01b"],
        ["GET", "/v2/Users?api_token=secret-qwertyuiop"],
    ],
)
async def test_used_wrongly(sandbox: Sandbox, keys: dict[str, str], arguments: list[str]) -> None:
    """A usage error, or a key among the arguments, has status 2 and sends nothing."""
    ended = await invoke("request", *arguments, **keys)
    assert (ended.status, ended.out) == (2, "")
    assert "salesmachine request: error: " in ended.err
    assert "qwertyuiop" not in ended.err
    assert sandbox.requests() == []


async def test_an_answer_that_quotes_the_key(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Keys are removed from an answer that quotes the request."""
    sandbox.faults([Fault(status=400, body={"error": f"what is {TOKEN}?"})])
    ended = await invoke("request", "GET", "/v2/Users", **keys)
    assert ended.status == 4
    assert TOKEN not in ended.err


async def test_no_body(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """An answer without a body prints nothing."""
    sandbox.faults([Fault(status=204, raw=None, body="")])
    assert await invoke("request", "DELETE", "/v2/Notes/1", **keys) == (0, "", "")
