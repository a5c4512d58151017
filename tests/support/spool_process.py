"""
Processes that use a spool, for the tests that kill them: ``python -m tests.support.spool_process WHAT PATH …``.

What they print is unbuffered, one JSON document a line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from salesmachine_async import Spool, SpoolFailed
from salesmachine_async._spool.spooler import Spooler
from tests.support.spool import DESTINATION, Queue, numbers

ROOT: Final = Path(__file__).parents[2]


def begin(*arguments: object) -> subprocess.Popen[str]:
    """Start one of the programs below."""
    command = [sys.executable, "-u", "-m", "tests.support.spool_process", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def say(**what: Any) -> None:
    """Print a document."""
    os.write(1, json.dumps(what).encode() + b"\n")


def make(path: str, queue: Queue, **policy: Any) -> Spooler:
    """Return a running spooler."""
    spooler = Spooler(Spool(path, **policy), DESTINATION, len(queue.lines), queue)
    spooler.start()
    return spooler


def write(path: str) -> None:
    """Accept 5,000 messages a second to two partitions, and say how many there are and how many are durable."""
    queue = Queue(2, piece=50)
    spooler = make(path, queue, commit=0.05)
    while True:
        for partition in (0, 1):
            queue.accept(25, partition)
        durable = [spooler.durable(partition) for partition in (0, 1)]
        say(accepted=[len(lines) for lines in queue.lines], durable=durable, at=time.monotonic())
        time.sleep(0.01)


def flood(path: str, max_bytes: str) -> None:
    """Accept as much as fits, and more."""
    queue = Queue(size=3000)
    spooler = make(path, queue, commit=0.01, max_bytes=int(max_bytes))
    full = 0
    while full < 20:
        queue.accept(40)
        try:
            spooler.sync().result()
        except SpoolFailed:
            full += 1
        queue.forgotten[0] = spooler.durable(0)
    say(durable=spooler.durable(0), state=spooler.stats().state)
    sys.stdin.read()


def adopt(path: str) -> None:
    """Recover everything that there is, when the word is given; say what it was."""
    spooler = make(path, Queue(), commit=0.01)
    say(ready=True)
    sys.stdin.readline()
    found: list[list[int]] = []
    while some := spooler.recover(200).result():
        for each in some:
            found.append([each.piece.partition, *numbers([each.piece], each.piece.partition)])
            each.receipt.settle(each.piece.messages)
    spooler.close().result()
    say(found=found)


def fork(path: str) -> None:
    """Write, fork a child that writes as well and one that does nothing, and say so."""
    queue = Queue()
    spooler = make(path, queue, commit=0.01)
    queue.accept(5)
    spooler.sync().result()
    idle = _child(signal.pause)
    os.waitpid(_child(lambda: _write_more(spooler, queue)), 0)
    queue.accept(5)
    spooler.sync().result()
    say(idle=idle, durable=spooler.durable(0))
    signal.pause()


def _child(run: Callable[[], object]) -> int:
    pid = os.fork()
    if not pid:
        with suppress(BaseException):
            run()
        os._exit(0)
    return pid


def _write_more(spooler: Spooler, queue: Queue) -> None:
    queue.lines[0].clear()
    queue.accept(3)
    spooler.sync().result(10)
    spooler.close().result(10)


def limited(path: str, limit: str) -> None:
    """Write below a limit of the size of files."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    queue = Queue()
    spooler = make(path, queue)
    queue.accept(3)
    try:
        spooler.sync().result()
    except SpoolFailed as exc:
        say(error=str(exc), state=spooler.stats().state)


if __name__ == "__main__":
    {each.__name__: each for each in (write, flood, adopt, fork, limited)}[sys.argv[1]](*sys.argv[2:])
