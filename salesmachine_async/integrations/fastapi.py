"""
FastAPI.

::

    from salesmachine_async.integrations.fastapi import SalesmachineMiddleware, Tracker

    app.add_middleware(SalesmachineMiddleware)

    @app.post("/orders/{order_id}")
    async def order(order_id: str, sm: Tracker):
        sm.identify("123456")
        sm.track("order_created", {"order": order_id})
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from salesmachine_async import tracker
from salesmachine_async.integrations._agent_lifespan import get_agent
from salesmachine_async.integrations._anonymous import AnonymousCookie
from salesmachine_async.integrations._context import current_tracker, identify, tracking
from salesmachine_async.integrations.asgi import KEY, SalesmachineMiddleware

__all__ = [
    "AnonymousCookie",
    "SalesmachineMiddleware",
    "Tracker",
    "current_tracker",
    "get_agent",
    "identify",
    "tracking",
]


# A coroutine although it never waits: FastAPI would run a function in a thread.
async def _tracker_of(connection: HTTPConnection) -> tracker.Tracker:
    found: tracker.Tracker | None = connection.scope.get(KEY)
    if found is None:
        raise RuntimeError("no tracker in this request: app.add_middleware(SalesmachineMiddleware)")
    return found


# A connection, not a request: so it works in WebSocket handlers too. It adds nothing to OpenAPI.
Tracker = Annotated[tracker.Tracker, Depends(_tracker_of)]
"""The tracker of the request, as the type of a parameter of a handler."""
