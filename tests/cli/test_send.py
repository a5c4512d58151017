"""`salesmachine contact`, `account`, `track`, `pageview` and `alias`, sent to a real sandbox."""

import asyncio
import json
import re
import signal
import time
from pathlib import Path

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.cli.conftest import SECRET, TOKEN
from tests.support.cli_inside import invoke
from tests.support.cli_process import end, start


async def test_all_of_them(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Each command does what the method of the agent does."""
    calls = (
        ("contact", "123456", "email=elon@teslamotors.com", "mrr:=99", "account_uid=78910"),
        ("account", "78910", "name=Tesla Motors"),
        ("track", "123456", "user_registration", "plan=pro"),
        ("pageview", "123456", "visit_url=/home"),
        ("alias", "123456", "visitor-789"),
    )
    for call in calls:
        ended = await invoke(*call, **keys)
        assert (ended.status, ended.err) == (0, ""), ended
        assert re.match(rf"Delivered: {' '.join(call[:2])}", ended.out)
        assert re.search(r"\(HTTP 20\d, \d+ ms\)\n$", ended.out)
    contact = sandbox.contact("visitor-789")
    assert contact["contact_uid"] == "123456"
    assert contact["params"] == {"email": "elon@teslamotors.com", "mrr": 99, "account_uid": "78910"}
    assert [event["event_uid"] for event in contact["events"]] == ["user_registration", "pageview"]
    assert sandbox.account("78910")["params"] == {"name": "Tesla Motors"}


@pytest.mark.slow
async def test_a_real_process(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Data goes to stdout without ANSI; params may come from stdin, with a time and an id."""
    process = await start(
        *("track", "123456", "order", "plan=pro", "--params", "-"),
        *("--created-at", "2026-11-05T09:30:00+01:00", "--message-id", "m-1", "--json"),
        **keys,
    )
    out, err = await process.communicate(b'{"total": 49.9, "plan": "free"}')
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out) == {
        "ok": True,
        "method": "track",
        "message_id": "m-1",
        "status": 201,
        "requests": 1,
        "seconds": json.loads(out)["seconds"],
        "lost": None,
        "error": None,
    }
    (event,) = sandbox.events()
    assert event["params"] == {"total": 49.9, "plan": "pro"}
    assert event["created_at"].startswith("2026-11-05T08:30:00")


@pytest.mark.parametrize(
    "arguments",
    [
        ["contact", "1", "--params", '{"a":'],
        ["contact", "1", "--created-at", "yesterday"],
        ["contact", ""],
        ["contact", "1", "--params", "-", "--credentials", "-"],
        ["track", "1", "plan=pro"],
        ["alias", "1"],
        ["contact", "1", "--timeout", "0"],
        ["nothing"],
    ],
)
async def test_used_wrongly(sandbox: Sandbox, keys: dict[str, str], arguments: list[str]) -> None:
    """A usage error has status 2 and a reason on stderr; nothing is sent."""
    ended = await invoke(*arguments, **keys)
    assert ended.status == 2
    assert ended.out == ""
    assert ": error: " in ended.err
    assert sandbox.summary()["accepted"] == 0


async def test_refused_key(keys: dict[str, str]) -> None:
    """A rejected key has status 4 at once, even with a long --timeout; no key is shown."""
    async with Sandbox(tokens=["good"]) as sandbox:
        begun = time.monotonic()
        ended = await invoke("contact", "1", "a=b", "--timeout", "60", **keys | {"SALESMACHINE_API_URL": sandbox.url})
        assert time.monotonic() - begun < 15
    assert ended.status == 4
    assert ended.out == ""
    assert ended.err.startswith(
        "salesmachine contact: error: contact 1 was not delivered: the server answered 401: check SALES"
    )
    assert len(ended.err.splitlines()) == 1
    assert TOKEN not in ended.err
    assert SECRET not in ended.err


@pytest.mark.parametrize(("status", "lost"), [(400, "rejected"), (413, "too_large"), (404, "closed")])
async def test_refused_message(sandbox: Sandbox, keys: dict[str, str], status: int, lost: str) -> None:
    """A rejected message has status 4 and the text of the server, also with --json."""
    sandbox.faults([Fault(status=status, times=None, path="/v1/batch", body={"error": f"no {TOKEN}\x1b[31m"})])
    ended = await invoke("track", "1", "x", "--json", **keys)
    assert ended.status == 4
    outcome = json.loads(ended.out)
    assert (outcome["ok"], outcome["status"], outcome["lost"]) == (False, status, lost)
    assert 'Server message: "no ***' in outcome["error"]
    assert f"the server answered {status}" in ended.err
    assert "\\x1b[31m" in ended.err
    assert TOKEN not in ended.out + ended.err


@pytest.mark.slow
async def test_no_server() -> None:
    """An unreachable server is retried until --timeout: status 5, with the id to send the same message again."""
    url = "http://127.0.0.1:1"
    begun = time.monotonic()
    ended = await invoke("track", "1", "x", "--timeout", "1", SALESMACHINE_API_URL=url, SALESMACHINE_API_TOKEN="t")
    assert time.monotonic() - begun >= 1
    assert ended.status == 5
    assert ended.out == ""
    first, last = ended.err.splitlines()
    assert first.endswith("; trying again ...")
    assert last.startswith("salesmachine track: error: track 1 x was not delivered: the connection failed (")
    assert re.search(r"\(the last of \d+ requests in \d+\.\d s\)", last)
    assert re.search(r"To send the same message again: --message-id \S{36}$", last)


async def test_a_pause_that_outlasts_the_deadline(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A Retry-After beyond the deadline ends it at once: status 5."""
    sandbox.faults([Fault(status=429, retry_after=60, times=None)])
    begun = time.monotonic()
    ended = await invoke("track", "1", "x", "--timeout", "20", **keys)
    assert time.monotonic() - begun < 10
    assert ended.status == 5
    assert "the server answered 429" in ended.err


async def test_no_answer(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A server that hangs is given up after --timeout."""
    sandbox.faults([Fault(latency=20)])
    ended = await invoke("track", "1", "x", "--timeout", "0.3", **keys)
    assert ended.status == 5
    assert "no answer within 0.3 s" in ended.err


@pytest.mark.slow
async def test_trouble_that_passes(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A message delivered at the third request has status 0 and the number of requests."""
    sandbox.faults([Fault(status=500, times=2)])
    ended = await invoke("track", "1", "x", **keys)
    assert ended.status == 0
    assert "(HTTP 201, 3 requests, " in ended.out
    assert ended.err == "the server answered 500; trying again ...\n"


@pytest.mark.slow
async def test_interrupted(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Ctrl-C has status 130 at once, and the output says that the message may have arrived; `ps` shows no key."""
    sandbox.faults([Fault(latency=20)])
    process = await start("track", "1", "x", **keys)
    while sandbox.faults_left() != []:  # until the request is there; bounded by the test's time-out
        await asyncio.sleep(0.01)
    listed = Path(f"/proc/{process.pid}/cmdline")
    if listed.exists():
        assert TOKEN.encode() not in listed.read_bytes()
    process.send_signal(signal.SIGINT)
    ended = await asyncio.wait_for(end(process), 10)
    assert ended.status == 130
    assert ended.out == ""
    assert ended.err == "Interrupted before an answer arrived: the message may have been delivered or not.\n"


async def test_keys_of_stdin(sandbox: Sandbox) -> None:
    """Keys can be read from stdin."""
    lines = f"SALESMACHINE_API_URL={sandbox.url}\nSALESMACHINE_API_TOKEN={TOKEN}\n"
    ended = await invoke("contact", "1", "--credentials", "-", stdin=lines)
    assert ended.status == 0
    assert sandbox.summary(TOKEN)["contacts"] == 1
