"""A WSGI application that tracks in each request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from salesmachine_async.integrations.wsgi import SalesmachineMiddleware, current_tracker, identify


def _app(environ: Any, start_response: Any) -> Iterable[bytes]:
    identify("u")
    current_tracker().track("visited", {"path": environ["PATH_INFO"]})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


application = SalesmachineMiddleware(_app)
