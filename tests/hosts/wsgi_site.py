"""A WSGI application that tracks in each request, and where ``TRACK_AT_IMPORT`` is set while it is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from salesmachine_async.integrations.wsgi import SalesmachineMiddleware, current_tracker, get_agent, identify


def _app(environ: Any, start_response: Any) -> Iterable[bytes]:
    identify("u")
    current_tracker().track("visited", {"path": environ["PATH_INFO"]})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


application = SalesmachineMiddleware(_app)

if "TRACK_AT_IMPORT" in os.environ:
    for number in range(5):
        get_agent(application).track("site", "imported", {"number": number})
