"""`salesmachine sandbox`."""

import json
import signal
import socket
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from salesmachine_async.cli.sandbox.command import _is_loopback
from salesmachine_async.cli.sandbox.options import SandboxOptions, explain, rate_of
from salesmachine_async.sandbox import RateLimit
from tests.support.cli_inside import invoke, invoke_here
from tests.support.cli_process import end, run, start

pytestmark = pytest.mark.slow


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
    """Without --json it prints the variables to set, in plain text without a terminal."""
    process = await start("sandbox", "--port", "0", "--until-eof")
    assert process.stdin is not None
    process.stdin.write(b"what is written to stdin does not matter")
    ended = await end(process)
    assert ended.status == 0
    assert ended.err == ""
    assert "export SALESMACHINE_API_URL=http://127.0.0.1:" in ended.out
    assert "SALESMACHINE_API_TOKEN=sandbox" in ended.out
    assert "curl -u sandbox: http://127.0.0.1:" in ended.out
    assert "Every token is a workspace of its own" in ended.out
    assert "the token you send with" in ended.out
    assert "Watch it live: http://127.0.0.1:" in ended.out
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


def test_port_taken() -> None:
    """A port in use is one clear line and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = invoke_here("sandbox", "--port", str(port))
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err == (
        f"salesmachine sandbox: error: port {port} on 127.0.0.1 is in use; choose another with --port, "
        "or --port 0 for any free one.\n"
    )


async def test_other_host(tmp_path: Path) -> None:
    """An address that other machines reach is a warning on stderr; further names can be allowed."""
    ended = await run("sandbox", "--host", "0.0.0.0", "--port", "0", "--until-eof", "--allow-host", "tests")
    assert ended.status == 0
    assert ended.err.startswith("salesmachine sandbox: warning: listening on 0.0.0.0:")
    assert len(ended.err.splitlines()) == 1


async def test_db(tmp_path: Path) -> None:
    """--db keeps the state in a file."""
    db = tmp_path / "sandbox.db"
    ended = await run("sandbox", "--port", "0", "--until-eof", "--db", str(db))
    assert ended.status == 0
    assert f"Kept in {db}." in " ".join(ended.out.splitlines())
    sqlite3.connect(db).close()


def test_unusable_db(tmp_path: Path) -> None:
    """Another file is not changed: one clear line and status 1."""
    db = tmp_path / "letter.txt"
    db.write_text("Dear Salesmachine, " * 100)
    ended = invoke_here("sandbox", "--port", "0", "--db", str(db))
    assert ended.status == 1
    assert ended.err.startswith(f"salesmachine sandbox: error: cannot use the database {db}: ")
    assert len(ended.err.splitlines()) == 1
    assert db.read_text().startswith("Dear Salesmachine, ")


def test_another_database_stays_as_it_is(tmp_path: Path) -> None:
    """A database or log of another program is rejected without a change of a byte; a dangling link is a usage error."""
    db = tmp_path / "other.db"
    with sqlite3.connect(db) as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    before = db.read_bytes()
    ended = invoke_here("sandbox", "--port", "0", "--db", str(db))
    assert ended.status == 1
    assert (db.read_bytes(), list(tmp_path.iterdir())) == (before, [db])
    for suffix in ("-wal", "-journal", "-shm"):
        beside = tmp_path / f"new.db{suffix}"
        beside.write_text("notes")
        ended = invoke_here("sandbox", "--port", "0", "--db", str(tmp_path / "new.db"))
        assert (ended.status, f"{beside} exists without it" in ended.err) == (1, True), ended
        assert beside.read_text() == "notes"
        beside.unlink()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    assert invoke_here("sandbox", "--port", "0", "--db", str(link)).status == 2
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("content", ["my notes\n", "12345678\n", "80 81\n"])
async def test_a_port_file_is_no_other_file(tmp_path: Path, content: str) -> None:
    """--port-file replaces the port of an earlier run, but never another file or a link."""
    file, target = tmp_path / "port", tmp_path / "target"
    file.write_text(content)
    ended = await run("sandbox", "--port", "0", "--until-eof", "--port-file", str(file))
    assert ended.status == 2
    assert "is not the port of a sandbox" in ended.err
    assert file.read_text() == content
    file.unlink()
    file.symlink_to(target)
    assert (await run("sandbox", "--port", "0", "--until-eof", "--port-file", str(file))).status == 2
    assert file.is_symlink()
    file.unlink()
    file.write_text("8700\n")
    assert (await run("sandbox", "--port", "0", "--until-eof", "--port-file", str(file))).status == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.com", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Only loopback addresses are unreachable for other machines."""
    assert _is_loopback(host) is loopback


def test_other_errors_are_explained_too() -> None:
    """Any failure to listen names the address and the reason of the system."""
    assert explain(OSError(13, "Permission denied"), SandboxOptions(port=80)) == (
        "cannot run the sandbox on 127.0.0.1 port 80: Permission denied"
    )
    assert explain(OSError("odd"), SandboxOptions(port=80)).endswith(": odd")


async def test_seed_faults_rate_limit_and_port_file(tmp_path: Path) -> None:
    """The seed, faults, rate limit and port file take effect; the port file is removed at the end."""
    seed, port_file = tmp_path / "seed.ndjson", tmp_path / "port"
    seed.write_text('{"method": "contact", "contact_uid": "seeded"}\n')
    process = await start(
        *("sandbox", "--port", "0", "--json", "--until-eof", "--port-file", str(port_file), "--seed", str(seed)),
        *("--faults", "503*2:retry_after=1,ok*", "--rate-limit", "3/60m"),
    )
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    assert ready["url"].endswith(f":{port_file.read_text().strip()}")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    auth, answers = aiohttp.encode_basic_auth("t", ""), []
    async with aiohttp.ClientSession(headers={"Authorization": auth}) as http:
        for _ in range(4):
            async with http.get(f"{ready['url']}/v2/Contacts") as response:
                answers.append(response.status)
                text = await response.text()
                if response.status == 200:
                    assert "seeded" in text
    assert answers[:2] == [503, 503]
    assert 200 in answers or 429 in answers
    assert answers[-1] == 429 or answers.count(200) == 2
    assert (await end(process)).status == 0
    assert not port_file.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--faults", "503,boom"], "--faults at character 5 ('boom'): unknown setting"),
        (["--rate-limit", "often"], "--rate-limit often: write it as 50/1s, 50/s or 600/m"),
        (["--rate-limit", "0/s"], "--rate-limit 0/s: requests must be 1 or more"),
        (["--seed", "SEED"], "cannot use the seed SEED: line 2: method must be one of"),
        (["--seed", "NONE"], "cannot read the seed NONE: No such file"),
    ],
)
async def test_options_that_cannot_be_used(tmp_path: Path, arguments: list[str], problem: str) -> None:
    """An unusable option is one line with the place, and status 2."""
    seed = tmp_path / "seed"
    seed.write_text('{"method": "contact", "contact_uid": "c"}\n{"method": "nothing"}\n')
    places = {"SEED": str(seed), "NONE": str(tmp_path / "none")}
    ended = await invoke("sandbox", "--port", "0", *(places.get(each, each) for each in arguments))
    assert (ended.status, ended.out) == (2, "")
    for name, place in places.items():
        problem = problem.replace(name, place)
    assert ended.err.startswith(f"salesmachine sandbox: error: {problem}")
    assert len(ended.err.splitlines()) == 1


def test_port_file_that_cannot_be_written(tmp_path: Path) -> None:
    """An unwritable port file is one line, and status 2."""
    ended = invoke_here("sandbox", "--port", "0", "--port-file", str(tmp_path / "none" / "port"))
    assert ended.status == 2
    port_file = tmp_path / "none" / "port"
    problem = f"cannot write the port to {port_file}: No such file or directory"
    assert ended.err == f"salesmachine sandbox: error: {problem}\n"


@pytest.mark.parametrize(
    ("text", "limit"),
    [("50/1s", (50, 1)), ("50/s", (50, 1)), ("50", (50, 1)), ("600/m", (600, 60)), ("5/250ms", (5, 0.25))],
)
def test_rate_limits(text: str, limit: tuple[int, float]) -> None:
    """The forms of a rate are parsed."""
    assert rate_of(text) == RateLimit(requests=limit[0], per=limit[1])
