"""
Runs the code of one page of the documentation: ``python -m tests.support.snippets PAGE``, in an empty directory.

Blocks run in their order. Those of ``python`` share one module, and may await; those of ``sh`` run in bash and pass
their exported variables on. An HTML comment before a block, which no reader sees, says otherwise:

* ``<!-- file: NAME -->``: the block is the content of a file.
* ``<!-- background: PORT -->``: a server that has to listen on PORT before the next block runs; it ends with the page.
* ``<!-- output -->``: the block is what the one before it has printed; ``…`` stands for anything.
* ``<!-- not run: REASON -->``: the block is only compiled, if it is Python.

``<!-- setup`` and ``<!-- check``, each with lines of Python up to ``-->``, are run and not shown. The ports of the
text (`PORTS`) are replaced by free ones.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(
    r"^<!-- (?P<hidden>setup|check)\n(?P<code>.*?)^-->$"
    r"|(?:^<!-- (?P<directive>(?:file|background|output|not run)[^\n]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[\w{}-]*)\n(?P<body>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


PORTS = (8700, 8000, 6380, 9464, 9465)


class Block(NamedTuple):
    """A block of code: its language, what is to be done with it, and where it stands."""

    language: str
    directive: str
    argument: str
    text: str
    line: int


def blocks_of(page: str) -> list[Block]:
    """List the blocks of a page, hidden ones too, which are Python."""
    found: list[Block] = []
    for match in FENCE.finditer(page):
        directive, _, argument = (match["directive"] or "").partition(":")
        group = "code" if match["hidden"] else "body"
        text = match[group].replace(f"\n{match['indent']}", "\n") if match["indent"] else match[group]
        line = page.count("\n", 0, match.start(group)) + 1
        language = "python" if match["hidden"] else match["language"]
        found.append(
            Block(language, directive.strip(), argument.strip(), text.removeprefix(match["indent"] or ""), line)
        )
    return found


def is_run(block: Block) -> bool:
    """Return whether a block is run, or compared with what was printed."""
    return block.directive == "output" or (block.language in ("python", "sh") and block.directive != "not run")


class Session:
    """The state between the blocks of a page."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.module = types.ModuleType("snippets")
        sys.modules["snippets"] = self.module
        sys.path.insert(0, "")
        self.printed = ""
        self.ports = {port: free_port() for port in PORTS}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.runner = asyncio.Runner()

    def run(self) -> None:
        """Run all blocks, and end what they have started."""
        try:
            for block in blocks_of(self.page.read_text()):
                self._run(block._replace(text=self._with_free_ports(block.text)))
        finally:
            self.runner.close()
            for server in reversed(self.servers):
                end(server)

    def _run(self, block: Block) -> None:
        ways: dict[str, Callable[[Block], None]] = {
            "file": self._file,
            "background": self._background,
            "output": self._compare,
            "not run": self._compile,
        }
        if block.directive:
            ways[block.directive](block)
        elif block.language == "python":
            self._python(block)
        elif block.language == "sh":
            self._sh(block)

    def _with_free_ports(self, text: str) -> str:
        served = r"^( *)salesmachine sandbox(?! exec)(?= |$)"
        text = re.sub(served, r"\1salesmachine sandbox --port 8700", text, flags=re.MULTILINE)
        text = re.sub(r"\b(uvicorn \w+:\w+)", r"\1 --port 8000", text)
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text

    def _file(self, block: Block) -> None:
        path = Path(block.argument)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def _compile(self, block: Block) -> None:
        assert block.argument, f"{self.page}:{block.line}: why is it not run?"
        if block.language == "python":
            self._compiled(block)

    def _compiled(self, block: Block) -> types.CodeType:
        source = "\n" * (block.line - 1) + block.text
        code: types.CodeType = compile(source, self.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return code

    def _python(self, block: Block) -> None:
        code = self._compiled(block)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & inspect.CO_COROUTINE:
                self.runner.run(eval(code, self.module.__dict__))
            else:
                exec(code, self.module.__dict__)
        self._note(printed.getvalue())

    def _sh(self, block: Block) -> None:
        script = f"trap 'env -0 >\"$SNIPPETS_ENV\"' EXIT\n{block.text}"
        kept = Path("..", f"{Path.cwd().name}.env").resolve()
        ended = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            env={**os.environ, "SNIPPETS_ENV": str(kept)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self._note(ended.stdout)
        if ended.returncode:
            raise SystemExit(f"{self.page}:{block.line}: status {ended.returncode}\n{block.text}\n{ended.stdout}")
        pairs = (line.partition("=") for line in kept.read_text().split("\0") if line)
        os.environ.update({name: value for name, _, value in pairs if name not in ("PWD", "SHLVL", "_", "OLDPWD")})

    def _background(self, block: Block) -> None:
        port = self.ports.get(int(block.argument), int(block.argument))
        log = Path("..", f"{Path.cwd().name}.{port}.log")
        command = ["bash", "-ec", re.sub(r"^(?=[a-z])([^\n#]*)", r"exec \1", block.text, count=1)]
        with log.open("wb") as out:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.servers.append(server)
        deadline = time.monotonic() + 30
        while not listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.page}:{block.line}: nothing listens on {port}\n{log.read_text()}")
            time.sleep(0.02)

    def _note(self, printed: str) -> None:
        sys.stdout.write(printed)
        self.printed = printed

    def _compare(self, block: Block) -> None:
        wanted = re.escape(block.text.strip()).replace("…", ".*?")
        if not re.fullmatch(wanted, self.printed.strip(), re.DOTALL):
            raise SystemExit(f"{self.page}:{block.line}: printed\n{self.printed}\ninstead of\n{block.text}")


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server as Ctrl-C does, and wait for it."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        raise


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether connections are accepted."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    Session(Path(sys.argv[1])).run()
