"""Plays the server to an ASGI application, by the letter of the specification."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from salesmachine_async import Agent
from salesmachine_async.integrations.asgi import SalesmachineMiddleware, identify


@dataclass
class Answer:
    """The answer of an application."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.messages]


def http_scope(path: str = "/", method: str = "GET", **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"example.com"), (b"user-agent", b"Mozilla/5.0")],
        "client": ("203.0.113.7", 50000),
        "server": ("127.0.0.1", 80),
        **more,
    }


async def call(app: Any, path: str = "/", method: str = "GET", *, answer: Answer | None = None, **more: Any) -> Answer:
    """Make one request without a body; the client stays until the application returns."""
    answer, gone = answer or Answer(), asyncio.Event()
    incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in incoming:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answer.messages.append(message)

    await app(http_scope(path, method, **more), receive, send)
    return answer


async def websocket(app: Any, path: str, texts: Iterable[str] = (), **more: Any) -> Answer:
    """Open a WebSocket, send the texts, close it."""
    answer = Answer()
    messages: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in texts),
        {"type": "websocket.disconnect", "code": 1000},
    ]
    incoming = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(incoming)

    async def send(message: dict[str, Any]) -> None:
        answer.messages.append(message)

    scope = http_scope(path, **more)
    del scope["method"]
    await app({**scope, "type": "websocket", "scheme": "ws", "subprotocols": []}, receive, send)
    return answer


class Lifespan:
    """One lifespan of an application, in a task of its own as servers run it."""

    def __init__(self, app: Any) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.state: dict[str, Any] = {}
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        self.task = asyncio.ensure_future(app(scope, self.incoming.get, self.outgoing.put))

    async def say(self, what: str) -> str:
        """Send ``startup`` or ``shutdown``; returns the answer's type."""
        await self.incoming.put({"type": f"lifespan.{what}"})
        answer = asyncio.ensure_future(self.outgoing.get())
        await asyncio.wait({answer, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await self.task
            raise AssertionError("the application ended without an answer")
        return str(answer.result()["type"])


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Run an application's lifespan around a block."""
    lifespan = Lifespan(app)
    assert await lifespan.say("startup") == "lifespan.startup.complete"
    yield
    assert await lifespan.say("shutdown") == "lifespan.shutdown.complete"
    await lifespan.task


START = {"type": "http.response.start", "status": 200, "headers": []}


class Route:
    path_format = "/things/{thing}"


def wrapped(app: Any, agent: Agent, **options: Any) -> SalesmachineMiddleware:
    return SalesmachineMiddleware(app, agent, **{"pageviews": True, **options})


def routed(scope: Any) -> None:
    """Record the route in the scope, as a router does, and identify a contact."""
    scope["route"] = Route()
    identify("u")
