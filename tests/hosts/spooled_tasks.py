"""A Celery application whose tasks wait until their events are on disk."""

from __future__ import annotations

import json
import os
import signal
from importlib import import_module
from typing import Any

from salesmachine_async import ThreadedAgent
from tests.hosts.spooled_site import next_event

# Not imported by name: Celery has no types.
app: Any = import_module("celery").Celery("shop")
app.config_from_object("celeryconfig")
agent = ThreadedAgent()


@app.task
def write(*, ends: bool) -> None:
    """Track an event, say so when it is on disk, and kill the process if it *ends*."""
    event = next_event()
    agent.track(event["pid"], "written", event)
    agent.sync()
    os.write(1, f"confirmed {json.dumps(event)}\n".encode())  # not by print, which Celery redirects
    if ends:
        os.kill(os.getpid(), signal.SIGKILL)


def send(count: int, *, ends: bool = False) -> None:
    """Send so many tasks."""
    for _ in range(count):
        write.delay(ends=ends)
