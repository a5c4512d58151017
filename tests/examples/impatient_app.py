"""An application whose agent gives up soon."""

from typing import Any

from salesmachine_async import Agent, Timeouts
from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify


async def inner(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        async with Agent(timeouts=Timeouts(close=0.2)) as agent:
            scope["state"]["agent"] = agent
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    identify("u")
    current_tracker()
    scope["state"]["agent"].track("u", "e")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


app = SalesmachineMiddleware(inner)
