"""`salesmachine sandbox exec`."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.support.cli_inside import invoke, invoke_here
from tests.support.cli_process import run, start

pytestmark = pytest.mark.slow

ENVIRONMENT = ("SALESMACHINE_API_URL", "SALESMACHINE_API_TOKEN", "SALESMACHINE_API_SECRET", "SALESMACHINE_ACCESS_TOKEN")


def script(code: str, *arguments: str) -> tuple[str, ...]:
    # -I: the child is no part of what is measured.
    return ("--", sys.executable, "-I", "-c", code, *arguments)


async def test_the_command_finds_the_sandbox(tmp_path: Path) -> None:
    """The command has the streams and the variables; the summary counts its messages."""
    code = (
        "import json, os, sys, urllib.request\n"
        f"print(json.dumps({{name: os.environ[name] for name in {ENVIRONMENT!r}}}))\n"
        "url = os.environ['SALESMACHINE_API_URL']\n"
        "body = json.dumps([{'method': 'contact', 'contact_uid': 'a', 'params': {}, 'messageId': '1'}] * 2).encode()\n"
        "ask = urllib.request.Request(url + '/v1/batch', body, {'Content-Type': 'application/json'})\n"
        "ask.add_header('Authorization', 'Basic c2FuZGJveDpzYW5kYm94')\n"
        "assert urllib.request.urlopen(ask).status == 201\n"
        "sys.stderr.write('own stderr, ' + sys.stdin.read())\n"
    )
    process = await start("sandbox", "exec", *script(code))
    out, err = await process.communicate(b"own stdin\n")
    assert process.returncode == 0
    variables = json.loads(out)
    assert variables["SALESMACHINE_API_URL"].startswith("http://127.0.0.1:")
    assert err.decode() == (
        f"Sandbox: {variables['SALESMACHINE_API_URL']}/\n"
        "own stderr, own stdin\nSandbox: 1 contact, 0 accounts, 0 events, 0 rejected, 1 duplicate; 1 request\n"
    )


async def test_the_proxy_of_the_network_is_not_used() -> None:
    """A proxy in the environment would not reach the sandbox: the command gets none."""
    command = (sys.executable, "-m", "salesmachine_async", "ping")
    ended = await run("sandbox", "exec", "-q", *command, SALESMACHINE_PROXY="http://127.0.0.1:1")
    assert ended.status == 0, ended


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
async def test_exit_status(code: str, status: int) -> None:
    """The status is that of the command, or 128 + N for a signal; --quiet prints nothing."""
    ended = await run("sandbox", "exec", "--quiet", sys.executable, "-I", "-c", code)
    assert ended == (status, "", "")


def test_no_such_command(tmp_path: Path) -> None:
    """As in a shell, 127 is an unknown command and 126 one that cannot be run."""
    ended = invoke_here("sandbox", "exec", "-q", "--", "no-such-command-here", "--port", "1")
    assert ended == (127, "", "salesmachine sandbox exec: error: there is no command 'no-such-command-here'\n")
    ended = invoke_here("sandbox", "exec", "-q", str(tmp_path))
    assert ended.status == 126
    assert ended.err.startswith(f"salesmachine sandbox exec: error: cannot run '{tmp_path}': ")


async def test_grandchildren_do_not_hold_it_up() -> None:
    """It ends with its command, also when that leaves a process running, which is not killed."""
    code = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-I', '-c', 'import time; time.sleep(30)']\n"
        "left = subprocess.Popen(command, stdin=-3, stdout=-3, stderr=-3)\n"
        "print(left.pid)\n"
    )
    begun = time.monotonic()
    ended = await run("sandbox", "exec", "--quiet", *script(code))
    assert ended.status == 0
    assert time.monotonic() - begun < 15
    left = int(ended.out)
    os.kill(left, 0)  # alive
    os.kill(left, signal.SIGKILL)


async def test_port() -> None:
    """--port fixes the port; one in use is an error before the command starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run("sandbox", "exec", "--port", str(port), *script("print('ran')"))
        assert (ended.status, ended.out) == (1, "")
        assert f"port {port} on 127.0.0.1 is in use" in ended.err
    code = "import os, sys; sys.stderr.write(os.environ['SALESMACHINE_API_URL'] + '\\n')"
    ended = await run("sandbox", "exec", "--port", str(port), *script(code))
    assert ended.status == 0
    url = f"http://127.0.0.1:{port}"
    assert ended.err.splitlines()[:2] == [f"Sandbox: {url}/", url]


async def test_options(tmp_path: Path) -> None:
    """--seed and --faults apply to the sandbox; options before exec are usage errors."""
    seed = tmp_path / "seed.ndjson"
    seed.write_text('{"method": "contact", "contact_uid": "seeded"}\n')
    code = (
        "import os, urllib.request, urllib.error\n"
        "url = os.environ['SALESMACHINE_API_URL']\n"
        "ask = urllib.request.Request(url + '/v2/Contacts')\n"
        "ask.add_header('Authorization', 'Basic c2FuZGJveDpzYW5kYm94')\n"
        "try:\n    urllib.request.urlopen(ask)\n"
        "except urllib.error.HTTPError as error:\n    print(error.code)\n"
        "print('seeded' in urllib.request.urlopen(ask).read().decode())\n"
    )
    ended = await run("sandbox", "exec", "--seed", str(seed), "--faults", "418", *script(code))
    assert (ended.status, ended.out) == (0, "418\nTrue\n")
    ended = await invoke("sandbox", "--faults", "418", "exec", "--", "true")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.endswith('salesmachine sandbox: error: --faults must come after "exec"\n')
