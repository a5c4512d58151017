"""
Makes the pictures of the command line: runs the real program in a terminal of its own, and draws what it shows.

    .venv/bin/python docs/make_screenshots.py            # all
    .venv/bin/python docs/make_screenshots.py ping list  # these

To add one, add a line to `SCENES`. Times and ids differ from run to run; the rest is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import aiohttp
from rich.console import Console
from rich.text import Text

from salesmachine_async import Agent, Batching, HttpTransport, Spool
from salesmachine_async.cli.demo.fleet.server import EngineServer
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.relay import Relay

HERE = Path(__file__).parent
PROGRAMS = Path(sys.executable).parent
COLUMNS = 100
ROWS = 40
DEADLINE = 120
# The sandbox's own default: it is in the pictures.
PORT = 8700

FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


class Scene(NamedTuple):
    """
    One picture.

    Attributes:
        name: Of the file, and in its title.
        commands: What is typed, one after the other; shell.
        keys: What is pressed when a text appears.
        own_port: Whether it needs the port that the other scenes' sandbox listens on.
    """

    name: str
    commands: tuple[str, ...]
    keys: tuple[tuple[str, str], ...] = ()
    own_port: bool = False


SCENES = (
    Scene("help", ("salesmachine --help",)),
    Scene("ping", ("salesmachine ping", "SALESMACHINE_API_URL=http://127.0.0.1:1 salesmachine ping")),
    Scene("contact", ("salesmachine contact 123456 email=elon@teslamotors.com 'name=Elon Musk' mrr:=99",)),
    Scene("account", ("salesmachine account 78910 'name=Tesla Motors' employee_count:=12000 mrr:=999",)),
    Scene(
        "track",
        (
            "salesmachine track 123456 user_registration account_uid=78910 display_name=Registration",
            "salesmachine track 123456 order_paid --json --params '{\"total\": 49.9}'",
            "salesmachine track 123456 order_paid --params '{\"total\":'",
        ),
    ),
    Scene("pageview", ("salesmachine pageview 123456 visit_url=/home visit_ip=203.0.113.7",)),
    Scene("alias", ("salesmachine alias 123456 visitor-789",)),
    Scene(
        "list",
        ("salesmachine list contacts --limit 4", "salesmachine list accounts", "salesmachine list users | head -n 1"),
    ),
    Scene("get", ("salesmachine get contact $CONTACT",)),
    Scene("delete", ("salesmachine delete contact $CONTACT",), keys=(("[y/N]: ", "y\n"),)),
    Scene(
        "request",
        ("salesmachine request GET '/v2/Users?limit=1' -i", 'salesmachine request GET /v2/Nothing; echo "status $?"'),
    ),
    Scene("spool", ("salesmachine spool --help",)),
    Scene("spool-ls", ("salesmachine spool ls",)),
    Scene("spool-check", ("salesmachine spool check",)),
    Scene("spool-show", ("salesmachine spool show --limit 3",)),
    Scene("spool-drain", ("salesmachine spool drain", "salesmachine spool ls")),
    Scene("spool-export", ("salesmachine spool export | head -n 2",)),
    Scene("spool-purge", ("salesmachine spool purge --all",), keys=(("[y/N]: ", "y\n"),)),
    Scene("relay", ("salesmachine relay --help",)),
    Scene("relay-status", ("salesmachine relay status",)),
    Scene("relay-dead", ("salesmachine relay dead --help",)),
    Scene("relay-dead-ls", ("salesmachine relay dead ls",)),
    Scene("relay-dead-show", ("salesmachine relay dead show $LETTER",)),
    Scene("relay-dead-retry", ("salesmachine relay dead retry $LETTER",)),
    Scene("relay-dead-purge", ("salesmachine relay dead purge --all",), keys=(("[y/N]: ", "y\n"),)),
    Scene("sandbox", ("salesmachine sandbox",), keys=(("stops it.", "\x03"),), own_port=True),
    Scene(
        "sandbox-exec",
        ("salesmachine sandbox exec --faults '503*2' -- salesmachine track 123456 order_paid total:=49.9",),
    ),
    Scene(
        "tail",
        (
            "(sleep 1.5; salesmachine track 123456 order_paid total:=49.9; salesmachine contact 7 plan=pro) "
            ">/dev/null & salesmachine tail --count 2",
        ),
    ),
    Scene("plan", ("salesmachine plan --help",)),
    Scene("plan-infer", ("salesmachine plan infer http://127.0.0.1:8700 | head -n 20",)),
    Scene("demo", ("salesmachine demo --seconds 4",)),
    Scene(
        "completion",
        ("bash --norc",),
        keys=(
            ("$ ", "source <(salesmachine completion bash)\n"),
            ("$ ", "salesmachine list con\t--sta\t\t\t"),
            ("trial", "pay\t\n"),
            ("CREATED", ""),
            ("$ ", "exit\n"),
        ),
    ),
)


def main() -> None:
    """Make the pictures named on the command line, or all."""
    wanted = sys.argv[1:] or [scene.name for scene in SCENES]
    with tempfile.TemporaryDirectory() as home:
        for scene in SCENES:
            if scene.name in wanted:
                picture = draw(scene, shoot(scene, Path(home)))
                (HERE / f"cli-{scene.name}.svg").write_text(picture, encoding="utf-8")
                sys.stdout.write(f"docs/cli-{scene.name}.svg\n")


def shoot(scene: Scene, home: Path) -> str:
    """Play a scene against a sandbox in its first state; return what the terminal showed."""
    environment = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PROMPT_COMMAND": "PS1='$ '",
        "TERM": "xterm-256color",
        "SALESMACHINE_API_URL": f"http://127.0.0.1:{PORT}",
        "SALESMACHINE_API_TOKEN": "sandbox",
        "SALESMACHINE_ACCESS_TOKEN": "sandbox",
    }
    if scene.own_port:
        return play(scene, environment)
    command = [str(PROGRAMS / "salesmachine"), "sandbox", "--seed", str(HERE / "screenshots.ndjson"), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "--until-eof"], stdin=pipe, stdout=pipe) as sandbox:  # noqa: S603 (our own)
        assert sandbox.stdout is not None
        sandbox.stdout.readline()
        if scene.name.startswith("spool-"):
            environment["SALESMACHINE_SPOOL"] = str(home / scene.name)
            asyncio.run(fill(home / scene.name))
        if "$CONTACT" in "".join(scene.commands):
            environment["CONTACT"] = contact_id(environment)
        try:
            with valkey(environment) if scene.name.startswith("relay-") else contextlib.nullcontext():
                return play(scene, environment)
        finally:
            assert sandbox.stdin is not None
            sandbox.stdin.close()


@contextlib.contextmanager
def valkey(environment: dict[str, str]) -> Generator[None]:
    """Run a server in which messages wait, and two have become dead letters."""
    server = EngineServer()
    try:
        asyncio.run(server.start())
        environment |= {"SALESMACHINE_ENGINE": server.url, "SALESMACHINE_ENGINE_NAME": "shop"}
        environment["LETTER"] = asyncio.run(publish(server.url))
        yield
    finally:
        server.remove()


async def publish(url: str) -> str:
    """Publish messages, let a relay find two that the server refuses, and publish more; returns one's identifier."""
    base_url = f"http://127.0.0.1:{PORT}"
    fault = {"path": "/v1/batch", "status": 422, "times": 2, "body": {"error": "total must be a string"}}
    async with aiohttp.ClientSession() as http, http.put(f"{base_url}/_sandbox/faults", json=[fault]) as response:
        response.raise_for_status()
    relay = Relay(
        RedisEngine(url, name="shop"), HttpTransport("sandbox", base_url=base_url), batching=Batching(max_messages=1)
    )
    for count in (2, 400):
        transport = RedisTransport(url, name="shop", partitions=4)
        async with Agent(transport=transport, enabled=True) as agent:
            for number in range(count):
                agent.track(str(number), "order_paid", {"total": 20 + number})
        if count == 2:
            running = asyncio.create_task(relay.run())
            while sum(relay.stats().dead.values()) < 2:  # noqa: ASYNC110 (a snapshot has no event)
                await asyncio.sleep(0.05)
            relay.stop()
            await running
    engine = RedisEngine(url, name="shop")
    await engine.start()
    (letter, *_) = await engine.dead_letters()
    await engine.aclose()
    return f"{letter.partition}:{letter.id}"


async def fill(path: Path) -> None:
    """Leave the messages of two agents that only write, one of them with another key."""
    for token, count in (("sandbox", 1200), ("another", 40)):
        spool = Spool(path, deliver=False)
        async with Agent(token, base_url=f"http://127.0.0.1:{PORT}", spool=spool, enabled=True) as agent:
            for number in range(count):
                agent.track("123456", "order_paid", {"total": 20.0 + number})


def contact_id(environment: dict[str, str]) -> str:
    """Ask for the id of the newest contact."""
    ask = ["bash", "-c", "salesmachine list contacts --limit 1"]
    line = subprocess.run(ask, env=environment, capture_output=True, text=True, check=True).stdout  # noqa: S603
    found = re.search(r'"id":"(\w+)"', line)
    assert found is not None
    return found[1]


def play(scene: Scene, environment: dict[str, str]) -> str:
    """Type the commands of a scene."""
    shown = ""
    for command in scene.commands:
        # As it would have been typed.
        typed = command
        for name, value in environment.items():
            typed = typed.replace(f"${name}", value)
        shown += f"\x1b[1;32m$\x1b[0m {typed}\n{screen_of(run(command, environment, scene.keys))}\n"
    return shown.rstrip("\n")


def run(command: str, environment: dict[str, str], keys: tuple[tuple[str, str], ...]) -> str:
    """Run a command in a terminal; return all it wrote there."""
    bash = shutil.which("bash")
    assert bash is not None
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(bash, ["bash", "--norc", "-c", command], environment)  # noqa: S606 (no shell between)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written, waiting, seen = b"", list(keys), 0
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until and select.select([terminal], [], [], DEADLINE)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # its last user is gone
            data = b""
        if not data:
            break
        written += data
        if waiting and (at := written.find(waiting[0][0].encode(), seen)) >= 0:
            seen = at + len(waiting[0][0].encode())
            os.write(terminal, waiting.pop(0)[1].encode())
    os.close(terminal)
    os.waitpid(pid, 0)
    return written.decode()


def screen_of(written: str) -> str:
    """Do what *written* tells a terminal: as much of it as live displays need, which rewrite whole lines."""
    lines, at = [""], 0
    for part in re.split(r"(\x1b\[\??[0-9;]*[A-Za-z]|\r\n|\r|\n)", written):
        if part in ("\r\n", "\n"):
            at += 1
            if at == len(lines):
                lines.append("")
        elif move := re.fullmatch(r"\x1b\[(\d*)A", part):
            at = max(0, at - int(move[1] or 1))
        elif re.fullmatch(r"\x1b\[[012]?K", part):
            lines[at] = ""
        elif part != "\r" and not re.fullmatch(r"\x1b\[\??[0-9;]*[A-Za-ln-z]", part):
            lines[at] += part
    return "\n".join(lines).rstrip("\n").replace("^C", "")


def draw(scene: Scene, shown: str) -> str:
    """Draw what a terminal showed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False, color_system="truecolor")
    console.print(Text.from_ansi(shown), soft_wrap=False)
    svg = console.export_svg(title=f"salesmachine {scene.name.replace('-', ' ')}", unique_id=f"cli-{scene.name}")
    # rich asks a server of others for its font.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family:[^;]*;", f"font-family: {FONTS};", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    main()
