"""
A FastAPI application that tracks: ``salesmachine sandbox`` in one terminal, then ``uvicorn examples.fastapi_app:app``.

The keys come from SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET.
"""

from collections.abc import Iterator

from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from salesmachine_async.integrations.fastapi import SalesmachineMiddleware, Tracker, identify

app = FastAPI()
app.add_middleware(SalesmachineMiddleware, pageviews=True, exclude=("/health",))


@app.get("/health")
async def health() -> str:
    """Answer the load balancer; no pageview."""
    return "ok"


@app.post("/users/{user_id}/orders/{order_id}")
async def order(user_id: str, order_id: str, sm: Tracker) -> dict[str, str]:
    """Track an order."""
    sm.identify(user_id, account_uid="acme")
    sm.track("order_created", {"order": order_id})
    return {"order": order_id}


@app.get("/users/{user_id}")
def profile(user_id: str, sm: Tracker) -> str:
    """Track from a thread: FastAPI runs plain functions in one."""
    sm.identify(user_id)
    sm.contact({"email": f"{user_id}@example.com"})
    return user_id


@app.get("/users/{user_id}/report")
async def report(user_id: str, sm: Tracker, tasks: BackgroundTasks) -> StreamingResponse:
    """Track from a stream and from a background task."""
    identify(user_id)

    def rows() -> Iterator[str]:
        yield "one,"
        sm.track("report_streamed")
        yield "two"

    tasks.add_task(sm.track, "report_done")
    return StreamingResponse(rows(), background=tasks)


@app.websocket("/chat/{user_id}")
async def chat(websocket: WebSocket, user_id: str, sm: Tracker) -> None:
    """Track over a WebSocket."""
    await websocket.accept()
    sm.identify(user_id)
    sm.track("chat_message", {"length": len(await websocket.receive_text())})
    await websocket.close()
