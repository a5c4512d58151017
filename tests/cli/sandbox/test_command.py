"""`salesmachine sandbox`."""

import json
import signal
import socket
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from salesmachine_async.cli.sandbox.command import _is_loopback
from salesmachine_async.cli.sandbox.options import Settings, explain
from tests.cli.process import end, run, start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_json(number: signal.Signals) -> None:
    """With --json one line says where it listens, url first; it serves until a signal, and exits 0."""
    process = await start("sandbox", "--port", "0", "--json")
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    assert list(ready) == ["url", "pid", "health"]
    assert ready["pid"] == process.pid
    async with aiohttp.ClientSession() as http, http.get(ready["health"]) as response:
        assert response.status == 200
    process.send_signal(number)
    assert await end(process) == (0, "", "")


async def test_text() -> None:
    """Without --json it says what to export and how to look at it, in plain text when nobody watches."""
    process = await start("sandbox", "--port", "0", "--until-eof")
    assert process.stdin is not None
    process.stdin.write(b"what is written to stdin does not matter")
    ended = await end(process)
    assert ended.status == 0
    assert ended.err == ""
    assert "export SALESMACHINE_API_URL=http://127.0.0.1:" in ended.out
    assert "SALESMACHINE_API_TOKEN=sandbox" in ended.out
    assert "curl -u sandbox: http://127.0.0.1:" in ended.out
    assert "in memory only" in ended.out
    assert "\x1b" not in ended.out


async def test_end_of_stdin_is_ignored_unless_asked_for() -> None:
    """A sandbox started with nohup or </dev/null keeps running."""
    process = await start("sandbox", "--port", "0", "--json")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    ready = json.loads(await process.stdout.readline())
    async with aiohttp.ClientSession() as http, http.get(ready["health"]) as response:
        assert response.status == 200
    process.terminate()
    assert (await end(process)).status == 0


async def test_port_taken() -> None:
    """A taken port is one clear line and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run("sandbox", "--port", str(port))
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err == (
        f"Error: port {port} on 127.0.0.1 is taken; choose another with --port, or --port 0 for any free one.\n"
    )


async def test_other_host(tmp_path: Path) -> None:
    """A host that others can reach is warned of on stderr; further names can be allowed."""
    ended = await run("sandbox", "--host", "0.0.0.0", "--port", "0", "--until-eof", "--allow-host", "tests")
    assert ended.status == 0
    assert ended.err.startswith("WARNING: listening on 0.0.0.0:")
    assert len(ended.err.splitlines()) == 1


async def test_db(tmp_path: Path) -> None:
    """--db keeps what arrives in a file."""
    db = tmp_path / "sandbox.db"
    ended = await run("sandbox", "--port", "0", "--until-eof", "--db", str(db))
    assert ended.status == 0
    assert f"Kept in {db}." in " ".join(ended.out.splitlines())
    sqlite3.connect(db).close()


async def test_unusable_db(tmp_path: Path) -> None:
    """A file that is no sandbox's is left alone, with one clear line and status 1."""
    db = tmp_path / "letter.txt"
    db.write_text("Dear Salesmachine, " * 100)
    ended = await run("sandbox", "--port", "0", "--until-eof", "--db", str(db))
    assert ended.status == 1
    assert ended.err.startswith(f"Error: cannot keep what arrives in {db}: ")
    assert len(ended.err.splitlines()) == 1
    assert db.read_text().startswith("Dear Salesmachine, ")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.com", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Only loopback addresses are safe from other machines."""
    assert _is_loopback(host) is loopback


def test_other_errors_are_explained_too() -> None:
    """Any failure to listen names the address and the system's reason."""
    assert explain(OSError(13, "Permission denied"), Settings(port=80)) == (
        "cannot run the sandbox on 127.0.0.1 port 80: Permission denied"
    )
    assert explain(OSError("odd"), Settings(port=80)).endswith(": odd")
