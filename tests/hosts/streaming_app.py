"""An ASGI application whose requests outlive it: a stream of server-sent events, and a WebSocket."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{what}.complete"})
        return
    identify("u")
    current_tracker().track("opened")
    try:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
        else:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
        if scope["path"] == "/stay":
            await asyncio.Event().wait()
        elif scope["type"] == "http":
            await send({"type": "http.response.body", "body": b""})
    finally:
        current_tracker().track("closed")
        sys.stdout.write("cleaned up\n")
        sys.stdout.flush()


app = SalesmachineMiddleware(_app)
