"""Child processes that never outlive their parent, and speak JSON lines."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Any

# How long a child may take to end once its stdin has; only a bug of ours takes longer.
GRACE_SECONDS = 3.0


class ChildError(Exception):
    """A child process ended when it should not have; says what it complained about last."""


class Child:
    """
    One running child.

    Args:
        process: The process, with stdin and stdout as pipes.
        complaints: The file its stderr goes to.
    """

    def __init__(self, process: asyncio.subprocess.Process, complaints: IO[bytes]) -> None:
        self._process = process
        self._complaints = complaints

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def send(self, message: dict[str, Any]) -> None:
        """
        Write one JSON line to its stdin.

        A child that has ended is noticed by the next `receive`: a pipe does not always tell the writer.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def receive(self) -> dict[str, Any]:
        """
        Read one JSON line from its stdout.

        Raises:
            ChildError: It ended.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise self._failure()
        message: dict[str, Any] = json.loads(line)
        return message

    def _failure(self) -> ChildError:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return ChildError(lines[-1] if lines else "a child process ended unexpectedly")


@contextlib.asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncGenerator[Child]:
    """
    Run ``python -m module arguments`` until the block ends.

    The child is expected to end when its stdin does: so it also ends when this process is killed. It gets a session of
    its own: Ctrl-C is for the parent only, which ends its children in order.
    """
    with tempfile.TemporaryFile() as complaints:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,
        )
        try:
            yield Child(process, complaints)
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        # communicate() rather than wait(): a child that still writes must not block on a full pipe.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
