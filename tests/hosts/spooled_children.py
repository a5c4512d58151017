"""
Children of multiprocessing on one spool: ``python -m tests.hosts.spooled_children METHOD``.

Four children write; two of them wait to be killed, two end. What each process has on disk is printed as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection

from salesmachine_async import ThreadedAgent, Timeouts
from tests.hosts.spooled_site import next_event

EVENTS = 50

# As in an application: made at the import, which a child repeats unless it was forked.
agent = ThreadedAgent(timeouts=Timeouts(close=0.2))


def write() -> int:
    """Track events until they are on disk; returns the process."""
    for _ in range(EVENTS):
        event = next_event()
        assert agent.track(event["pid"], "written", event)
    agent.sync()
    return os.getpid()


def child(channel: Connection, *, stays: bool) -> None:
    """Write, and end or wait to be killed."""
    channel.send(write())
    if stays:
        signal.pause()


def main(method: str) -> None:
    """Start four children, and wait for the end of all and for a line on stdin."""
    context = multiprocessing.get_context(method)
    own = write()
    started = []
    for number in range(4):
        here, there = context.Pipe()
        process = context.Process(target=child, args=(there,), kwargs={"stays": number < 2})  # type: ignore[attr-defined]
        process.start()
        started.append((process, here))
    pids = [here.recv() for _, here in started]
    for process, _ in started[:2]:
        process.kill()
    for process, _ in started:
        process.join()
    sys.stdout.write(
        f"{json.dumps({'parent': own, 'children': pids, 'ends': [each.exitcode for each, _ in started]})}\n"
    )
    sys.stdout.flush()
    sys.stdin.readline()
    agent.close()


if __name__ == "__main__":
    main(sys.argv[1])
