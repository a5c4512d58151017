"""Runs the real command in a terminal of its own."""

import asyncio
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tests.support.cli_process import environment

DEADLINE = 30.0

# What is done when a text has appeared: keys are pressed, or a function is called with the pid of the process.
Press = str | Callable[[int], object]


class Shown(NamedTuple):
    """The exit status of a process, and the contents of its terminal."""

    status: int
    text: str


async def in_terminal(*command: str, extra: Mapping[str, str], press: Sequence[tuple[str, Press]] = ()) -> Shown:
    """Run `python -m salesmachine_async …` in a terminal; press keys, each when its text has appeared."""
    env = environment(**{"TERM": "xterm-256color", **extra})
    return await asyncio.to_thread(play, (sys.executable, "-m", "salesmachine_async", *command), press, env)


def play(command: Sequence[str], keys: Sequence[tuple[str, Press]], env: dict[str, str]) -> Shown:
    """Run any command so."""
    ours, theirs = pty.openpty()
    # Else the terminal, after it has sent the signal of Ctrl-C, discards what the process writes in reply to it.
    mode = termios.tcgetattr(theirs)
    mode[3] |= termios.NOFLSH
    termios.tcsetattr(theirs, termios.TCSANOW, mode)

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(theirs)
    written, waiting, seen, until = b"", list(keys), 0, time.monotonic() + DEADLINE
    while time.monotonic() < until and select.select([ours], [], [], DEADLINE)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        written += data
        while waiting and (at := written.find(waiting[0][0].encode(), seen)) >= 0:
            text, press = waiting.pop(0)
            seen = at + len(text.encode())
            if callable(press):
                press(process.pid)
            else:
                os.write(ours, press.encode())
    os.close(ours)
    return Shown(process.wait(DEADLINE), written.decode().replace("\r\n", "\n"))
