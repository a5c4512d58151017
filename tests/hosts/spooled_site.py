"""
WSGI and ASGI applications that answer when an event is on disk, and what their processes left of it.

Each process numbers its events, and the contact is the process. The agents are those of the integrations, which the
environment configures. The path ``/fast`` does not wait for the disk. Where ``TRACK_AT_IMPORT`` is set, events are
written while the application is imported.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from salesmachine_async import SpoolFailed
from salesmachine_async.integrations import asgi, wsgi

_numbers: dict[int, itertools.count[int]] = {}


def next_event() -> dict[str, int]:
    """Return the process and the number of its next event."""
    pid = os.getpid()
    return {"pid": pid, "n": next(_numbers.setdefault(pid, itertools.count()))}


def _wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    event = next_event()
    agent: Any = wsgi.get_agent(application)
    assert agent.track(event["pid"], "written", event)
    if environ["PATH_INFO"] != "/fast":
        agent.sync()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(event).encode()]


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{what}.complete"})
        return
    event = next_event()
    agent: Any = asgi.get_agent(app)
    assert agent.track(event["pid"], "written", event)
    if scope["path"] != "/fast":
        await agent.sync()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(event).encode()})


application = wsgi.SalesmachineMiddleware(_wsgi)
app = asgi.SalesmachineMiddleware(_asgi)

if "TRACK_AT_IMPORT" in os.environ:
    _agent: Any = wsgi.get_agent(application)
    for _ in range(5):
        _event = next_event()
        _agent.track(_event["pid"], "imported", _event)
    try:
        _agent.sync()
    except SpoolFailed as exc:
        sys.stderr.write(f"not written: {exc}\n")
