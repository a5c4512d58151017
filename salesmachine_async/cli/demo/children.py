"""Child processes that end with their parent and exchange JSON lines with it."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from typing import IO, Any

# The time limit for a child to exit after its stdin was closed.
GRACE_SECONDS = 3.0


class ChildError(Exception):
    """A child process that ended too early; the message is the last line of its stderr."""


class Child:
    """
    A child process.

    Args:
        process: The process, with stdin and stdout as pipes.
        errors: The file of its stderr.
    """

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def send(self, message: dict[str, Any]) -> None:
        """
        Write one JSON line to its stdin.

        The next `receive` reports a child that has ended, because a write to its pipe may succeed.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def receive(self) -> dict[str, Any]:
        """
        Read one JSON line from its stdout.

        Raises:
            ChildError: If the child ended.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise self._failure()
        message: dict[str, Any] = json.loads(line)
        return message

    def _failure(self) -> ChildError:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return ChildError(lines[-1] if lines else "a child process ended unexpectedly")


@contextlib.asynccontextmanager
async def child(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[Child]:
    """
    Run ``python -m module arguments`` until the block ends, with *env* added to the environment.

    The child has to exit at the end of its stdin, so that it also ends when this process is killed. It has a session of
    its own, so that Ctrl-C reaches only the parent.
    """
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env=None if env is None else {**os.environ, **env},
        )
        try:
            yield Child(process, errors)
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        # communicate() reads the pipe, on which a child that still writes would block.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
