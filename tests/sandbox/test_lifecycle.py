"""Starting, stopping, restarting."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.sandbox.conftest import TOKEN, Client


async def test_repr_is_live(client: Client, sandbox: Sandbox) -> None:
    """The repr shows the address and the counts."""
    await client.contact("1", account_uid="9")
    await client.track("1", "x")
    assert repr(sandbox) == f"<Sandbox [{sandbox.url} | 2 requests | 1 contacts, 1 accounts, 1 events]>"


async def test_not_running() -> None:
    """Before start and after close inspection raises; closing twice is allowed."""
    sandbox = Sandbox()
    assert repr(sandbox) == "<Sandbox [not running]>"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not running"):
            _ = sandbox.url
        with pytest.raises(RuntimeError, match="not running"):
            sandbox.summary()
        async with sandbox:
            assert sandbox.url.startswith("http://127.0.0.1:")
            with pytest.raises(RuntimeError, match="running already"):
                await sandbox.start()
        await sandbox.aclose()


async def test_sandboxes_are_independent(session: Any) -> None:
    """Two sandboxes run side by side on their own ports."""
    async with Sandbox() as one, Sandbox() as two:
        assert one.url != two.url
        await Client(session, one.url).contact("1")
        assert two.contacts() == []


async def test_taken_port() -> None:
    """A port in use raises, and releases all resources."""
    async with Sandbox() as one:
        two = Sandbox(port=int(one.url.rpartition(":")[2]))
        with pytest.raises(OSError, match="address already in use"):
            await two.start()
        assert repr(two) == "<Sandbox [not running]>"


@pytest.mark.parametrize(
    "bounds", [{"max_body_bytes": 0}, {"max_batch_messages": 0}, {"max_events": -1}, {"max_requests": 0}]
)
def test_bounds_are_checked(bounds: dict[str, int]) -> None:
    """A limit below one raises at once."""
    with pytest.raises(ValueError, match=f"{next(iter(bounds))} must be 1 or more"):
        Sandbox(**bounds)  # type: ignore[arg-type]


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:"), ("0.0.0.0", "http://127.0.0.1:")])
async def test_other_addresses(session: Any, host: str, url: str) -> None:
    """The URL is connectable for every listening address."""
    try:
        async with Sandbox(host=host) as sandbox:
            assert sandbox.url.startswith(url)
            assert (await Client(session, sandbox.url).post("/v1/ping")).status == 200
    except OSError:
        pytest.skip(f"this machine has no {host}")


async def test_stop_ends_idle_connections() -> None:
    """An idle connection does not delay the stop."""
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(5):
            async with Sandbox() as sandbox:
                client = Client(session, sandbox.url)
                await client.post("/v1/ping")
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post("/v1/ping")


async def test_stop_ends_latencies() -> None:
    """A request in a latency ends when the server stops."""
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(5):
            async with Sandbox() as sandbox:
                sandbox.faults([Fault(latency=3600.0, drop="before")])
                request = asyncio.create_task(Client(session, sandbox.url).post("/v1/ping"))
                while sandbox.faults_left():
                    await asyncio.sleep(0.001)
            with pytest.raises(aiohttp.ClientError):
                await request


async def test_stop_ends_slow_uploads() -> None:
    """An endless body does not delay the stop."""
    async with asyncio.timeout(5):
        async with Sandbox() as sandbox:
            host, _, port = sandbox.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = "POST /v1/ping?api_token=t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: 10\r\n\r\n{{".encode())
            await writer.drain()
            sandbox.faults([Fault(status=503)])
            while sandbox.faults_left():
                await asyncio.sleep(0.001)
        await reader.read()
        writer.close()


async def test_state_survives_in_a_file(session: Any, tmp_path: Path) -> None:
    """With a database file the state survives a restart; the log of requests does not."""
    path = tmp_path / "sandbox.db"
    event = {"contact_uid": "2", "event_uid": "x", "messageId": "m"}
    async with Sandbox(db=path) as sandbox:
        client = Client(session, sandbox.url)
        await client.contact("1", name="é\0")
        await client.alias("1", "2")
        await client.post("/v1/track/event", event)
        await client.post("/v1/batch", [{}])
        before = (sandbox.contact("2"), sandbox.events(), sandbox.summary())
    async with Sandbox(db=str(path)) as sandbox:
        summary = {**before[2], "requests": {}, "bytes": 0}
        assert (sandbox.contact("2"), sandbox.events(), sandbox.summary()) == (*before[:2], summary)
        await Client(session, sandbox.url).post("/v1/track/event", event)
        await Client(session, sandbox.url).track("1", "y")
        assert sandbox.summary()["duplicates"] == 1
        assert [each["seq"] for each in sandbox.events(TOKEN)] == [3, 4]
    assert [each.name for each in tmp_path.iterdir()] == ["sandbox.db"]


async def test_other_databases_are_refused(tmp_path: Path) -> None:
    """Another database is not modified."""
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE x (y)")
    db.close()
    with pytest.raises(ValueError, match="by another version"):
        await Sandbox(db=foreign).start()
    text = tmp_path / "text.db"
    text.write_text("no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        await Sandbox(db=text).start()


async def test_methods_work_from_other_threads(client: Client, sandbox: Sandbox) -> None:
    """A sandbox in another thread can be inspected."""
    await client.contact("1")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append((sandbox.summary()["contacts"], sandbox.contact("1"))))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found[0][0] == 1


async def test_concurrent_batches(client: Client, sandbox: Sandbox) -> None:
    """Concurrent batches are applied one after the other."""
    batch = [{"method": "event", "contact_uid": "1", "event_uid": str(n)} for n in range(50)]
    answers = await asyncio.gather(*(client.post("/v1/batch", batch) for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    names = [event["event_uid"] for event in sandbox.events()]
    assert names == [str(n) for n in range(50)] * 20


def test_the_package_does_not_import_the_server() -> None:
    """Importing the library imports no web server."""
    code = "import sys, salesmachine_async; sys.exit('aiohttp.web' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_sandbox_shares_no_code_with_the_agent() -> None:
    """The sandbox imports nothing from the agent, so that each can verify the other."""
    import ast

    import salesmachine_async.sandbox

    for path in Path(salesmachine_async.sandbox.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not name.startswith("salesmachine_async") or name.startswith("salesmachine_async.sandbox"), path


async def test_client_that_disconnects_early_causes_no_error(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that disconnects before its body is read appears in the log of requests and causes no traceback."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic dDo=\r\nContent-Type: application/json\r\n"
    )
    writer.write(f"{head}Content-Length: 100\r\n\r\n[".encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    while not sandbox.requests():  # bounded by the test's time-out
        await asyncio.sleep(0.01)
    assert caplog.records == []
