"""Runs the real command in a real process."""

import asyncio
import os
import subprocess
import sys
from typing import NamedTuple


class Ended(NamedTuple):
    """The exit status and the output of a process."""

    status: int
    out: str
    err: str


def environment(**extra: str) -> dict[str, str]:
    """Return the environment without credentials, with a width of 80 columns."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SALESMACHINE_")}
    return kept | {"COLUMNS": "80"} | extra


def command(*arguments: str) -> tuple[str, ...]:
    """The command line of `salesmachine …`."""
    return (sys.executable, "-m", "salesmachine_async", *arguments)


async def start(*arguments: str, **extra: str) -> asyncio.subprocess.Process:
    """Start `python -m salesmachine_async …`, with pipes."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, env=environment(**extra)
    )


def popen(*arguments: str, **extra: str) -> subprocess.Popen[bytes]:
    """Start the command for a test without an event loop."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, env=environment(**extra))


async def end(process: asyncio.subprocess.Process) -> Ended:
    """Wait for its end; stdin ends at once."""
    out, err = await process.communicate(b"")
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(*arguments: str, **extra: str) -> Ended:
    """Run it to its end."""
    return await end(await start(*arguments, **extra))
