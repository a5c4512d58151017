"""The agent's start and end along the ASGI lifespan protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from salesmachine_async.integrations._agent_lifespan import AgentLifespan

__all__ = ["ASGIApp", "Message", "Receive", "Scope", "Send", "run_lifespan"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Of any arguments: frameworks describe theirs more closely or more loosely than one type could.
ASGIApp = Callable[..., Awaitable[None]]

# After these the application is over, or never began; the agent ends before the server gets the message.
LAST = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


async def run_lifespan(app: ASGIApp, lifespan: AgentLifespan, scope: Scope, receive: Receive, send: Send) -> None:
    """
    Run the application's lifespan, with the agent started before it and ended after it.

    If the application does not support lifespan (Django raises ValueError), the protocol is completed on its behalf.
    """
    protocol = _Protocol(lifespan, receive, send)
    try:
        try:
            await app(scope, protocol.receive, protocol.send)
        except Exception:
            # If it took part at all, this is a failure of its own, which the server must see.
            if protocol.touched:
                raise
        await protocol.finish()
    finally:
        await lifespan.end()


class _Protocol:
    """Watches one lifespan, and completes it where the application does not."""

    def __init__(self, lifespan: AgentLifespan, receive: Receive, send: Send) -> None:
        self._lifespan = lifespan
        self._receive = receive
        self._send = send
        self._seen: set[str] = set()
        self.touched = False

    async def receive(self) -> Message:
        self.touched = True
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            await self._lifespan.begin()
        self._seen.add(message["type"])
        return message

    async def send(self, message: Message) -> None:
        self.touched = True
        if message["type"] in LAST:
            await self._lifespan.end()
        self._seen.add(message["type"])
        await self._send(message)

    async def finish(self) -> None:
        """Send and await what the application left out."""
        if self._seen.isdisjoint(LAST):
            if "lifespan.startup" not in self._seen:
                await self.receive()
            if "lifespan.startup.complete" not in self._seen:
                await self.send({"type": "lifespan.startup.complete"})
            if "lifespan.shutdown" not in self._seen:
                await self.receive()
            await self.send({"type": "lifespan.shutdown.complete"})
