"""The agent's life along the ASGI lifespan protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from salesmachine_async.integrations._life import Life

__all__ = ["ASGIApp", "Message", "Receive", "Scope", "Send", "run_lifespan"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Of any arguments: frameworks describe theirs more closely or more loosely than one type could.
ASGIApp = Callable[..., Awaitable[None]]

# After these the application is over, or never began: the agent ends before the server hears of it.
LAST = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


async def run_lifespan(app: ASGIApp, life: Life, scope: Scope, receive: Receive, send: Send) -> None:
    """
    Run the application's lifespan, with the agent started before it and ended after it.

    An application that knows no lifespan (Django raises ValueError at once) is spoken for.
    """
    protocol = _Protocol(life, receive, send)
    try:
        try:
            await app(scope, protocol.receive, protocol.send)
        except Exception:
            # If it took part at all, this is a failure of its own, and the server's to judge.
            if protocol.touched:
                raise
        await protocol.finish()
    finally:
        await life.end()


class _Protocol:
    """Watches one lifespan, and completes it where the application does not."""

    def __init__(self, life: Life, receive: Receive, send: Send) -> None:
        self._life = life
        self._receive = receive
        self._send = send
        self._seen: set[str] = set()
        self.touched = False

    async def receive(self) -> Message:
        self.touched = True
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            await self._life.begin()
        self._seen.add(message["type"])
        return message

    async def send(self, message: Message) -> None:
        self.touched = True
        if message["type"] in LAST:
            await self._life.end()
        self._seen.add(message["type"])
        await self._send(message)

    async def finish(self) -> None:
        """Say and wait for what the application left out."""
        if self._seen.isdisjoint(LAST):
            if "lifespan.startup" not in self._seen:
                await self.receive()
            if "lifespan.startup.complete" not in self._seen:
                await self.send({"type": "lifespan.startup.complete"})
            if "lifespan.shutdown" not in self._seen:
                await self.receive()
            await self.send({"type": "lifespan.shutdown.complete"})
